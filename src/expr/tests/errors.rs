//! What is refused, where, and with what advice.

use super::*;
use crate::ground::limits::{EXPR_DEPTH_MAX, EXPR_TOKENS_MAX};

#[test]
fn errors_say_where_and_what_to_do() {
    check_error("amout > 5", "unknown column `amout`", "amout", "did you mean `amount`?");
    check_error("zzz > 5", "unknown column", "zzz", "the columns here are id, n");
    check_error("id + SUBSTRIN(name)", "unknown function SUBSTRIN", "SUBSTRIN", "SUBSTRING");
    check_error("n > 5 AND name", "a condition is BOOLEAN; this is STRING", "name", "");
    check_error("n + name", "BIGINT and STRING cannot be added", "n + name", "CAST(... AS BIGINT)");
    check_error("name = 5", "cannot be compared", "name = 5", "CAST");
    check_error("ts + 5", "TIMESTAMP and BIGINT", "ts + 5", "INTERVAL");
    check_error("ts > 'yesterday'", "cannot be compared", "ts > 'yesterday'", "TIMESTAMP '");
    check_error("TIMESTAMP 'yesterday'", "is not a TIMESTAMP", "'yesterday'", "2024");
    check_error("UPPER(n)", "STRING is wanted; this is BIGINT", "n", "CAST(... AS STRING)");
    check_error("UPPER(name, name)", "UPPER takes 1 argument, not 2", "UPPER(name, name", "");
    check_error("SUM(n)", "SUM ranges over many rows", "SUM", "window");
    check_error("NULL", "NULL alone has no type", "NULL", "CAST(NULL AS STRING)");
    check_error(
        "CASE WHEN ok THEN 1 ELSE name END",
        "this branch of CASE is STRING",
        "name",
        "cast",
    );
    check_error("COALESCE(n, name)", "the arguments of COALESCE have one type", "name", "cast");
    check_error("REGEXP_EXTRACT(name, '(')", "no regular expression", "'('", "");
    check_error("REGEXP_EXTRACT(name, 'a', 1)", "the pattern has 0 groups", "1", "");
    check_error("REGEXP_EXTRACT(name, name)", "must be a literal", "name", "compiled once");
    check_error("CAST(n AS DATE)", "there is no type DATE", "n", "DATE_TRUNC");
    check_error("CAST(n AS DECIMAL(38,2))", "there is no type", "n", "1 to 18 digits");
    check_error("CAST(ts AS DOUBLE)", "a TIMESTAMP cannot be cast to DOUBLE", "ts", "");
    check_error("DATE_TRUNC('fortnight', ts)", "not a unit", "'fortnight'", "'day'");
    check_error("DATE_FORMAT(ts, 'yyyy-bb')", "`bb` is not a letter", "'yyyy-bb'", "yyyy");
    check_error("INTERVAL '1' MONTH", "no value of its own", "'1'", "TIMESTAMP");
    check_error("99999999999999999999", "does not fit a BIGINT", "99999999999999999999", "1e20");
    check_error("1.2345678901234567890", "has 20 digits", "1.2345678901234567890", "1.5e0");
    check_error("n IN (1, 'a')", "BIGINT and STRING cannot be compared", "'a'", "");
    check_error("n BETWEEN 1 AND 'a'", "cannot be compared", "'a'", "");
    check_error("a.b.c = 1", "more than two parts", "a.b.c", "FROM a.b");
    check_error("n = (SELECT 1)", "subquery", "SELECT 1", "");
    check_error("name LIKE 'a!b' ESCAPE '!'", "must stand before", "'a!b'", "");
    check_error("ok || ok = ok", "", "ok || ok = ok", "");
}

#[test]
fn syntax_errors_have_a_place() {
    for (text, at) in
        [("n >", ""), ("n > > 5", ">"), ("(n > 5", ""), ("n 5", "5"), ("'open", "'open")]
    {
        let error = compile(text).unwrap_err();
        assert_eq!(&text[error.span.clone()], at, "{text}: {error}");
        assert!(!error.message.contains("Line"), "{}", error.message);
    }
    assert_eq!(compile("").unwrap_err().message, "the expression is empty");
    assert_eq!(compile(" \n ").unwrap_err().message, "the expression is empty");
}

#[test]
fn places_are_bytes_in_texts_of_many_lines() {
    let text = "name = 'ünï'\r\n  AND amount > 5\n\tAND  amont < 7";
    let error = compile(text).unwrap_err();
    assert_eq!(&text[error.span.clone()], "amont");
}

#[test]
fn several_inputs_need_a_qualifier() {
    let scope = Scope::qualified("left", &schema()).join(Scope::qualified("right", &schema()));
    let error = Program::compile("id = 1", &scope).unwrap_err();
    assert!(error.message.contains("several inputs"));
    assert_eq!(error.hint.as_deref(), Some("say which one is meant: left.id or right.id"));
    let program = Program::compile("right.id = 1", &scope).unwrap();
    assert_eq!(program.columns(), [9]);
    let error = Program::compile("right.idd = 1", &scope).unwrap_err();
    assert!(error.hint.unwrap().contains("id`?"));
    // Names are case-sensitive.
    assert!(Program::compile("left.ID = 1", &scope).is_err());
}

#[test]
fn depth_and_size_are_bounded() {
    let nest = |open: &str, inner: &str, close: &str, n: usize| {
        format!("{}{inner}{}", open.repeat(n), close.repeat(n))
    };
    for (open, inner, close) in [
        ("(", "n", ")"),
        ("-", " n", ""),
        ("NOT ", "ok", ""),
        ("ABS(", "n", ")"),
        ("CASE WHEN ok THEN ", "1", " END"),
        ("1 + (", "n", ")"),
        ("n IN (", "1", ")"),
    ] {
        // NOT and minus signs need blanks, or they are comments.
        let open = if open == "-" { "- " } else { open };
        let error = compile(&nest(open, inner, close, 1_000)).unwrap_err();
        assert!(error.message.contains("deeper than"), "{open}: {}", error.message);
    }
    assert!(compile(&nest("(", "n", ")", EXPR_DEPTH_MAX / 2)).is_ok());
    let chain = |n: usize, op: &str| vec!["n"; n].join(op);
    let error = compile(&chain(1_000, " + ")).unwrap_err();
    assert!(error.message.contains("deeper than"), "{}", error.message);
    let error = compile(&chain(100_000, " + ")).unwrap_err();
    assert!(error.message.contains("operators"), "{}", error.message);
    let many = vec!["n = 1"; EXPR_TOKENS_MAX / 2].join(" OR ");
    assert!(compile(&many).is_ok());
    let list: Vec<String> = (0..50_000).map(|i| i.to_string()).collect();
    assert!(compile(&format!("n IN ({})", list.join(", "))).is_ok());
}
