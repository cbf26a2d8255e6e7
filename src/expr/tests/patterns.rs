//! Conditions and selects of patterns.

use super::*;
use crate::expr::{Condition, StepFunc, compile_match_select};

fn steps() -> Vec<String> {
    vec!["change".into(), "cash".into()]
}

fn condition(text: &str) -> Condition {
    Condition::compile(text, &Scope::of(&schema()), &steps())
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn conjuncts_are_split_by_what_they_read() {
    let both = condition(
        "type = 'BUY' AND amount > 2 * FIRST(cash.amount) AND n > 5 AND COUNT(cash.n) < 3",
    );
    assert_eq!(both.row.as_ref().unwrap().columns().len(), 2);
    let refs = &both.rest.as_ref().unwrap().refs;
    assert_eq!(refs.len(), 2);
    assert_eq!((refs[0].step, refs[0].func, refs[0].argument), (1, StepFunc::First, Some(3)));
    assert_eq!((refs[1].step, refs[1].func, refs[1].argument), (1, StepFunc::Count, Some(1)));
    let pure = condition("type = 'BUY' AND n > 5");
    assert!(pure.row.is_some() && pure.rest.is_none());
    let rest = condition("type = 'BUY' OR LAST(change.name) <> name");
    assert!(rest.row.is_none() && rest.rest.is_some());
    let always = condition("TRUE");
    assert!(always.row.is_none() && always.rest.is_none());
    let never = condition("FALSE");
    assert!(never.row.is_some() && never.rest.is_none());
}

#[test]
fn conditions_are_tested_against_a_partial_match() {
    let test = |text: &str, row: usize, refs: &[Value<'_>]| {
        condition(text).rest.unwrap().test(&batch(), row, refs)
    };
    let rising = "amount > LAST(change.amount)";
    assert!(test(rising, 0, &[value(Some(1249))]));
    assert!(!test(rising, 0, &[value(Some(1250))]));
    assert!(!test(rising, 0, &[value(None)]), "NULL is not true");
    assert!(!test(rising, 1, &[value(Some(0))]), "NULL is not true");
    assert!(test(
        "n - FIRST(change.n) >= 3 OR COUNT(change.*) = 0",
        1,
        &[value(None), value(Some(0))]
    ));
    let other = "name <> LAST(change.name)";
    let mut heap = b"...".to_vec();
    let same = slot::put(b"Ada Lovelace", &mut heap);
    let long = |slot: u64, heap| Value { slot, null: false, heap };
    assert!(!test(other, 0, &[long(same, &heap)]));
    assert!(test(other, 0, &[long(slot::inline(b"Ada"), &[])]));
    assert!(test(
        "ts - FIRST(cash.ts) < INTERVAL '10' MINUTE",
        0,
        &[value(Some(1_709_209_800_000))]
    ));
    let long_text = "LAST(change.name) || '/' || name LIKE '%Lovelace/Ada%'";
    assert!(test(long_text, 0, &[long(same, &heap)]));
}

#[test]
fn functions_over_steps_have_their_types() {
    let text = "SUM(cash.amount) > 1 AND AVG(cash.amount) > 1 AND MIN(cash.ts) < ts AND AVG(cash.n) = 1 AND MAX(cash.name) = 'a'";
    let refs = condition(text).rest.unwrap().refs;
    let types: Vec<String> = refs.iter().map(|step| step.data_type.to_string()).collect();
    assert_eq!(types, ["DECIMAL(18,2)", "DECIMAL(18,6)", "TIMESTAMP", "BIGINT", "STRING"]);
}

#[test]
fn selects_of_matches() {
    let select = |text: &str| {
        compile_match_select(&[("out".into(), text.into())], &Scope::of(&schema()), &steps())
    };
    let columns = [
        ("id", "FIRST(change.id)"),
        ("amount", "LAST(cash.amount) + FIRST(cash.amount)"),
        ("all", "ARRAY_AGG(cash.amount)"),
        ("again", "FIRST(change.id) * 2"),
        ("kind", "'ACCOUNT_TAKEOVER'"),
    ];
    let columns: Vec<(String, String)> =
        columns.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect();
    let found = compile_match_select(&columns, &Scope::of(&schema()), &steps()).unwrap();
    assert_eq!(found.refs.len(), 4);
    assert_eq!(found.row.width(), 4);
    let types: Vec<String> =
        found.finish.schema().columns.iter().map(|c| c.data_type.to_string()).collect();
    assert_eq!(types, ["BIGINT", "DECIMAL(18,2)", "ARRAY<DECIMAL(18,2)>", "BIGINT", "STRING"]);
    let error = select("amount").unwrap_err().remove(0).1;
    assert!(error.hint.unwrap().contains("LAST(cash.amount)"));
    let error = select("cash.amount").unwrap_err().remove(0).1;
    assert!(error.hint.unwrap().contains("FIRST(cash.amount)"));
    let error = select("LAST(cahs.amount)").unwrap_err().remove(0).1;
    assert_eq!(error.hint.as_deref(), Some("did you mean `cash`?"));
}

#[test]
fn wrong_conditions_are_refused() {
    for (text, message) in [
        ("FIRST(cash.amont) > 1", "unknown column `amont`"),
        ("FIRST(cash.amount + 1) > 1", "FIRST takes a step's column"),
        ("SUM(amount) > 1", "SUM takes a step's column"),
        ("COUNT(*) > 1", "COUNT takes a step's column"),
        ("SUM(cash.name) > 1", "SUM does not take STRING"),
        ("ARRAY_AGG(cash.n) IS NULL", "not known in a pattern's where"),
        ("cash.amount > 1", "may have many values"),
        ("FIRST(cash.amount)", "a condition is BOOLEAN"),
    ] {
        let error = Condition::compile(text, &Scope::of(&schema()), &steps()).unwrap_err();
        assert!(error.message.contains(message), "{text}: {}", error.message);
    }
}
