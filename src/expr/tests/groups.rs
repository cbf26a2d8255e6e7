//! Selects with aggregates.

use super::*;
use crate::expr::{AggregateFunc, AggregateSelect, compile_aggregates};

fn group(
    select: &[(&str, &str)],
    having: Option<&str>,
) -> Result<AggregateSelect, Vec<(usize, ExprError)>> {
    let select: Vec<(String, String)> =
        select.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect();
    compile_aggregates(&select, having, &Scope::of(&schema()), &["type".into(), "id".into()], true)
}

fn only_error(select: &str, having: Option<&str>) -> (usize, ExprError) {
    let mut errors = group(&[("out", select)], having).unwrap_err();
    assert_eq!(errors.len(), 1, "{errors:?}");
    errors.remove(0)
}

#[test]
fn the_risk_score_of_the_fraud_pipeline() {
    let select = group(
        &[
            ("id", "id"),
            ("start", "window_start"),
            ("n", "COUNT(*)"),
            ("total", "SUM(amount)"),
            (
                "score",
                "10 * COUNT(*) FILTER (WHERE amount > 3 * x)
                 + CASE WHEN COUNT(DISTINCT name) > 20 THEN 5 ELSE 0 END",
            ),
        ],
        Some("score > 0"),
    )
    .unwrap();
    let funcs: Vec<&AggregateFunc> = select.calls.iter().map(|call| &call.func).collect();
    assert_eq!(
        funcs,
        [
            &AggregateFunc::CountStar,
            &AggregateFunc::Sum,
            &AggregateFunc::CountStar,
            &AggregateFunc::CountDistinct
        ]
    );
    assert!(select.calls[2].filter.is_some() && select.calls[0].filter.is_none());
    let types: Vec<String> = select.row.columns.iter().map(|c| c.data_type.to_string()).collect();
    assert_eq!(
        types,
        [
            "STRING",
            "BIGINT",
            "TIMESTAMP",
            "TIMESTAMP",
            "BIGINT",
            "DECIMAL(18,2)",
            "BIGINT",
            "BIGINT"
        ]
    );
    let nullable: Vec<bool> = select.row.columns.iter().map(|c| c.nullable).collect();
    assert_eq!(nullable, [true, false, false, false, false, true, false, false]);
    let out = select.finish.schema();
    let names: Vec<&str> = out.columns.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["id", "start", "n", "total", "score"]);

    // An intermediate row becomes an output row.
    let mut builder = BatchBuilder::new(8, 2);
    builder.push(&[slot::inline(b"BUY"), 42, 1000, 2000, 7, 12_345, 3, 21]);
    builder.push_nulls(&[slot::inline(b"BUY"), 43, 1000, 2000, 7, 0, 0, 20], &[1 << 5]);
    let row = builder.finish();
    let (mut finish, mut having) = (select.finish.clone(), select.having.clone().unwrap());
    let mut out = BatchBuilder::new(5, 2);
    finish.project(&row, &[0, 1], &mut out);
    let out = out.finish();
    assert_eq!(out.row(0), [42, 1000, 7, 12_345, 35]);
    assert_eq!(out.row(1), [43, 1000, 7, 0, 0]);
    assert_eq!(out.get(1, 3), None);
    let mut mask = Vec::new();
    having.mask(&row, &[0, 1], &mut mask);
    assert_eq!(mask, [1]);
}

#[test]
fn equal_calls_are_shared() {
    let select = group(
        &[
            ("a", "SUM(n) / COUNT(*)"),
            ("b", "sum( n ) + COUNT(*) + COUNT(id)"),
            ("c", "SUM(n) FILTER (WHERE ok)"),
            ("d", "AVG(n)"),
        ],
        Some("SUM(n) > 5 AND MAX(x) < 3"),
    )
    .unwrap();
    // COUNT of what is never NULL is COUNT(*); MAX is of having alone.
    assert_eq!(select.calls.len(), 5);
}

#[test]
fn results_have_their_types() {
    for (text, expected) in [
        ("COUNT(n)", "BIGINT"),
        ("SUM(n)", "BIGINT"),
        ("SUM(x)", "DOUBLE"),
        ("SUM(amount)", "DECIMAL(18,2)"),
        ("AVG(n)", "BIGINT"),
        ("AVG(amount)", "DECIMAL(18,6)"),
        ("AVG(x)", "DOUBLE"),
        ("MIN(name)", "STRING"),
        ("MAX(ts)", "TIMESTAMP"),
        ("FIRST(ok)", "BOOLEAN"),
        ("LAST_VALUE(raw)", "BYTES"),
        ("STDDEV_POP(n)", "DOUBLE"),
        ("VAR_POP(amount)", "DOUBLE"),
        ("APPROX_PERCENTILE(amount, 0.99)", "DOUBLE"),
        ("APPROX_COUNT_DISTINCT(name)", "BIGINT"),
        ("TOP_K(name, 10)", "ARRAY<STRING>"),
        ("ARRAY_AGG(amount)", "ARRAY<DECIMAL(18,2)>"),
        ("MAX(ts) - MIN(ts)", "BIGINT"),
        ("ROUND(AVG(amount), 2)", "DECIMAL(15,2)"),
        ("CARDINALITY(ARRAY_AGG(n))", "BIGINT"),
    ] {
        let select =
            group(&[("out", text)], None).unwrap_or_else(|errors| panic!("{text}: {errors:?}"));
        assert_eq!(select.finish.schema().columns[0].data_type.to_string(), expected, "{text}");
    }
}

#[test]
fn errors_name_the_column_of_the_select() {
    let errors =
        group(&[("a", "name"), ("b", "COUNT(*)"), ("c", "SUM(name)")], Some("a > 1")).unwrap_err();
    let places: Vec<usize> = errors.iter().map(|(place, _)| *place).collect();
    assert_eq!(places, [0, 2]);
    assert!(errors[0].1.message.contains("is not a key"));
    assert!(errors[0].1.hint.as_deref().unwrap().contains("LAST(name)"));
    assert!(errors[1].1.message.contains("SUM does not take STRING"));
    for (text, message) in [
        ("SUM(COUNT(*))", "COUNT stands inside SUM: aggregates do not nest"),
        ("SUM(*)", "SUM cannot take `*`"),
        ("SUM(DISTINCT n)", "SUM(DISTINCT ...) is not supported"),
        ("TOP_K(n, 0)", "TOP_K keeps 1 to"),
        ("TOP_K(n)", "TOP_K takes 2 arguments"),
        ("APPROX_PERCENTILE(n, 99)", "from 0 to 1"),
        ("COUNT(n) FILTER (WHERE name)", "a condition is BOOLEAN"),
        ("SUM(amont)", "unknown column `amont`"),
        ("window_strat", "unknown column"),
        ("COUNT(NULL)", "NULL alone"),
        ("COUNT(n) OVER ()", "OVER"),
    ] {
        let (place, error) = only_error(text, None);
        assert_eq!(place, 0);
        assert!(error.message.contains(message), "{text}: {}", error.message);
    }
    let (place, error) = only_error("COUNT(*)", Some("outt > 5"));
    assert_eq!((place, error.hint.as_deref()), (1, Some("did you mean `out`?")));
    let (place, _) = only_error("COUNT(*)", Some("out + 1"));
    assert_eq!(place, 1);
    let wrong_key = compile_aggregates(&[], None, &Scope::of(&schema()), &["idd".into()], false);
    assert!(wrong_key.unwrap_err()[0].1.message.contains("unknown column `idd`"));
}
