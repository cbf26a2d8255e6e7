//! Operators, logic and types.

use super::*;

#[test]
fn comparisons_have_three_values() {
    check("n = 7", ["TRUE", "NULL", "FALSE"]);
    check("n <> 7", ["FALSE", "NULL", "TRUE"]);
    check("7 != n", ["FALSE", "NULL", "TRUE"]);
    check("n < 8", ["TRUE", "NULL", "TRUE"]);
    check("n <= 6", ["FALSE", "NULL", "TRUE"]);
    check("n > -9223372036854775808", ["TRUE", "NULL", "FALSE"]);
    check("n >= -9223372036854775808", ["TRUE", "NULL", "TRUE"]);
    check("n < -9223372036854775808", ["FALSE", "NULL", "FALSE"]);
    check("8 > n", ["TRUE", "NULL", "TRUE"]);
    check("id = n - 6", ["TRUE", "NULL", "NULL"]);
    check("name = 'Ada Lovelace'", ["TRUE", "NULL", "FALSE"]);
    check("type = 'BUY'", ["TRUE", "NULL", "FALSE"]);
    check("type <> 'BUY'", ["FALSE", "NULL", "TRUE"]);
    check("type < name", ["FALSE", "NULL", "TRUE"]);
    check("name = type", ["FALSE", "NULL", "FALSE"]);
    check("ok = TRUE", ["TRUE", "NULL", "FALSE"]);
    check("raw = X'6279746573'", ["TRUE", "NULL", "FALSE"]);
    check("n = NULL", ["NULL", "NULL", "NULL"]);
}

#[test]
fn decimals_are_compared_exactly() {
    check("amount < 50", ["TRUE", "NULL", "TRUE"]);
    check("amount = 12.5", ["TRUE", "NULL", "FALSE"]);
    check("amount = 12.505", ["FALSE", "NULL", "FALSE"]);
    check("amount <> 12.505", ["TRUE", "NULL", "TRUE"]);
    check("amount > 12.495", ["TRUE", "NULL", "FALSE"]);
    check("amount >= 12.505", ["FALSE", "NULL", "FALSE"]);
    check("amount <= 12.505", ["TRUE", "NULL", "TRUE"]);
    check("amount < 12.505", ["TRUE", "NULL", "TRUE"]);
    check("amount < 12.50", ["FALSE", "NULL", "TRUE"]);
    check("amount > id", ["TRUE", "NULL", "FALSE"]);
    check("amount > n", ["TRUE", "NULL", "TRUE"]);
    check("amount > x", ["TRUE", "NULL", "FALSE"]);
    check("amount < 9223372036854775807", ["TRUE", "NULL", "TRUE"]);
    check("amount > -9223372036854775808", ["TRUE", "NULL", "TRUE"]);
    check("amount BETWEEN 12 AND 13", ["TRUE", "NULL", "FALSE"]);
    check("amount NOT BETWEEN 12 AND 13", ["FALSE", "NULL", "TRUE"]);
    check("n BETWEEN id AND 10", ["TRUE", "NULL", "FALSE"]);
    check("amount BETWEEN 13 AND 12", ["FALSE", "NULL", "FALSE"]);
}

#[test]
fn logic_has_three_values() {
    let known = [("TRUE", Some(true)), ("FALSE", Some(false)), ("ok", None)];
    let show = |value: Option<bool>| match value {
        Some(true) => "TRUE",
        Some(false) => "FALSE",
        None => "NULL",
    };
    // `ok` is NULL in row 1.
    let scope = Scope::of(&schema());
    for (a, a_value) in known {
        for (b, b_value) in known {
            let and = match (a_value, b_value) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            };
            let or = match (a_value, b_value) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            };
            // Once folded, once computed.
            let computed =
                |word: &str| if word == "ok" { "ok".into() } else { format!("(id = 2) = {word}") };
            for (x, y) in [(a.to_string(), b.to_string()), (computed(a), computed(b))] {
                let found = evaluate(&format!("({x}) AND ({y})"), &batch(), &scope, &[1]);
                assert_eq!(found, [show(and)], "{x} AND {y}");
                let found = evaluate(&format!("({x}) OR ({y})"), &batch(), &scope, &[1]);
                assert_eq!(found, [show(or)], "{x} OR {y}");
            }
        }
        let found = evaluate(&format!("NOT {a}"), &batch(), &scope, &[1]);
        assert_eq!(found, [show(a_value.map(|value| !value))]);
    }
    check("ok IS TRUE", ["TRUE", "FALSE", "FALSE"]);
    check("ok IS NOT TRUE", ["FALSE", "TRUE", "TRUE"]);
    check("ok IS FALSE", ["FALSE", "FALSE", "TRUE"]);
    check("ok IS NOT FALSE", ["TRUE", "TRUE", "FALSE"]);
    check("ok IS UNKNOWN", ["FALSE", "TRUE", "FALSE"]);
    check("n IS NULL", ["FALSE", "TRUE", "FALSE"]);
    check("n IS NOT NULL", ["TRUE", "FALSE", "TRUE"]);
    check("(n > 3) IS NULL", ["FALSE", "TRUE", "FALSE"]);
    check("id IS NULL", ["FALSE", "FALSE", "FALSE"]);
    check("n IS DISTINCT FROM 7", ["FALSE", "TRUE", "TRUE"]);
    check("n IS NOT DISTINCT FROM NULL", ["FALSE", "TRUE", "FALSE"]);
    check("n IS NOT DISTINCT FROM n", ["TRUE", "TRUE", "TRUE"]);
}

#[test]
fn lists_and_patterns() {
    check("n IN (1, 7, 9)", ["TRUE", "NULL", "FALSE"]);
    check("n NOT IN (1, 7, 9)", ["FALSE", "NULL", "TRUE"]);
    check("n IN (1, NULL)", ["NULL", "NULL", "NULL"]);
    check("n IN (7, NULL)", ["TRUE", "NULL", "NULL"]);
    check("n IN (1,2,3,4,5,6,7,8,9,10,11,12)", ["TRUE", "NULL", "FALSE"]);
    check("n IN (id, id + 6)", ["TRUE", "NULL", "FALSE"]);
    check("amount IN (12.5, 12.505)", ["TRUE", "NULL", "FALSE"]);
    check("amount IN (12.505)", ["FALSE", "NULL", "FALSE"]);
    check("type IN ('BUY', 'a type that is long')", ["TRUE", "NULL", "TRUE"]);
    check("name IN ('Ada Lovelace')", ["TRUE", "NULL", "FALSE"]);
    check("x IN (2.5, 1)", ["TRUE", "NULL", "FALSE"]);
    check("ok IN (TRUE)", ["TRUE", "NULL", "FALSE"]);
    check("name LIKE 'Ada%'", ["TRUE", "NULL", "FALSE"]);
    check("name LIKE '%lace'", ["TRUE", "NULL", "FALSE"]);
    check("name LIKE '%long%'", ["FALSE", "NULL", "TRUE"]);
    check("name LIKE '_n_code%'", ["FALSE", "NULL", "TRUE"]);
    check("name NOT LIKE 'Ada%'", ["FALSE", "NULL", "TRUE"]);
    check("type LIKE 'B!_Y' ESCAPE '!'", ["FALSE", "NULL", "FALSE"]);
    check("type LIKE type", ["TRUE", "NULL", "TRUE"]);
    check("name LIKE ''", ["FALSE", "NULL", "FALSE"]);
    check("name LIKE '%'", ["TRUE", "NULL", "TRUE"]);
    check("name RLIKE 'L.*ace$'", ["TRUE", "NULL", "FALSE"]);
}

#[test]
fn integers_truncate_and_what_does_not_fit_is_null() {
    check("n + 1", ["8", "NULL", "-9223372036854775807"]);
    check("n - 1", ["6", "NULL", "NULL"]);
    check("n * 2", ["14", "NULL", "NULL"]);
    check("n / 2", ["3", "NULL", "-4611686018427387904"]);
    check("-n / 2", ["-3", "NULL", "NULL"]);
    check("n / -1", ["-7", "NULL", "NULL"]);
    check("n % 4", ["3", "NULL", "0"]);
    check("n % -1", ["0", "NULL", "0"]);
    check("n / (id - 1)", ["NULL", "NULL", "-4611686018427387904"]);
    check("n % (id - 1)", ["NULL", "NULL", "0"]);
    check("-n", ["-7", "NULL", "NULL"]);
    check("+n", ["7", "NULL", "-9223372036854775808"]);
    check_constant("7 / 2", "3");
    check_constant("-7 / 2", "-3");
    check_constant("-7 % 3", "-1");
    check_constant("1 / 0", "NULL");
    check_constant("2 + 3 * 4 - -1", "15");
    check_constant("-9223372036854775808", "-9223372036854775808");
}

#[test]
fn decimals_are_exact() {
    check("amount + 0.005", ["12.505", "NULL", "NULL"]);
    check("amount - 0.5", ["12.00", "NULL", "NULL"]);
    check("amount * 2", ["25.00", "NULL", "NULL"]);
    check("amount * 0.1", ["1.250", "NULL", "-999999999999999.999"]);
    check("amount / 3", ["4.166667", "NULL", "NULL"]);
    check("amount % 5", ["2.50", "NULL", "-4.99"]);
    check("amount / 0", ["NULL", "NULL", "NULL"]);
    check("amount * 2.5e0", ["31.25", "NULL", "-2.5e16"]);
    check("-amount", ["-12.50", "NULL", "9999999999999999.99"]);
    check_type("0.908", "DECIMAL(3,3)");
    check_type("1.50", "DECIMAL(3,2)");
    check_type("12.", "DECIMAL(2,0)");
    check_type("007.5", "DECIMAL(2,1)");
    check_type("12", "BIGINT");
    check_type("1e3", "DOUBLE");
    check_type("1.5 + 0.25", "DECIMAL(4,2)");
    check_type("amount + 1", "DECIMAL(18,2)");
    check_type("1.5 * 0.25", "DECIMAL(4,3)");
    check_type("amount * amount", "DECIMAL(18,4)");
    check_type("amount / 3", "DECIMAL(18,6)");
    check_type("amount % 5", "DECIMAL(18,2)");
    check_type("amount + x", "DOUBLE");
    check_constant("0.1 + 0.2", "0.3");
    check_constant("0.000001 * 0.000001 * 0.0000001", "0.000000000000000000");
    check_constant("1.0 / 3", "0.333333");
    check_constant("2.0 / 3", "0.666667");
    check_constant("-2.0 / 3", "-0.666667");
    check_constant("999999999999999999.0e0", "1e18");
}

#[test]
fn doubles_that_are_no_numbers_are_null() {
    check("x * 2", ["5.0", "NULL", "-0.25"]);
    check("x / 0", ["NULL", "NULL", "NULL"]);
    check("x % 2", ["0.5", "NULL", "-0.125"]);
    check("1e308 * 10 * x", ["NULL", "NULL", "NULL"]);
    check("SQRT(x)", ["1.5811388300841898", "NULL", "NULL"]);
    check("-x", ["-2.5", "NULL", "0.125"]);
    check("x > n", ["FALSE", "NULL", "TRUE"]);
}

#[test]
fn cases_choose() {
    check(
        "CASE WHEN n > 5 THEN 'big' WHEN n IS NULL THEN 'none' ELSE 'small' END",
        ["'big'", "'none'", "'small'"],
    );
    check("CASE n WHEN 7 THEN 1 WHEN 8 THEN 2 END", ["1", "NULL", "NULL"]);
    check("CASE WHEN ok THEN amount ELSE 0 END", ["12.50", "0.00", "0.00"]);
    check("CASE WHEN ok THEN n ELSE 0.5 END", ["7.0", "0.5", "0.5"]);
    check("CASE WHEN ok THEN n ELSE x END", ["7.0", "NULL", "-0.125"]);
    check(
        "CASE WHEN ok THEN name ELSE type END",
        ["'Ada Lovelace'", "NULL", "'a type that is long'"],
    );
    check("CASE WHEN ok THEN ok ELSE id > 2 END", ["TRUE", "FALSE", "TRUE"]);
    check("CASE WHEN id = 1 THEN n > 3 WHEN id = 2 THEN ok END", ["TRUE", "NULL", "NULL"]);
    check("CASE WHEN NULL THEN 1 ELSE 2 END", ["2", "2", "2"]);
    check("CASE WHEN TRUE THEN n ELSE 2 END", ["7", "NULL", "-9223372036854775808"]);
    check("COALESCE(n, 5)", ["7", "5", "-9223372036854775808"]);
    check(
        "COALESCE(NULL, name, 'nobody at all')",
        ["'Ada Lovelace'", "'nobody at all'", "'Ünïcode, long enough to lie in the heap'"],
    );
    check("COALESCE(id, n)", ["1", "2", "3"]);
    check("COALESCE(n, x)", ["7.0", "NULL", "-9.223372036854776e18"]);
    check("NULLIF(n, 7)", ["NULL", "NULL", "-9223372036854775808"]);
    check("NULLIF(type, 'BUY')", ["NULL", "NULL", "'a type that is long'"]);
    check("IF(ok, 1, 2)", ["1", "2", "2"]);
    check_type("COALESCE(id, n)", "BIGINT");
    assert!(!compile("COALESCE(n, 5)").unwrap().nullable());
    assert!(!compile("CASE WHEN ok THEN 1 ELSE 2 END").unwrap().nullable());
    assert!(compile("CASE WHEN ok THEN 1 END").unwrap().nullable());
}

#[test]
fn casts() {
    check("CAST(n AS STRING)", ["'7'", "NULL", "'-9223372036854775808'"]);
    check("CAST(x AS STRING)", ["'2.5'", "NULL", "'-0.125'"]);
    check("CAST(amount AS STRING)", ["'12.50'", "NULL", "'-9999999999999999.99'"]);
    check("CAST(ok AS STRING)", ["'TRUE'", "NULL", "'FALSE'"]);
    check("CAST(ts AS STRING)", ["'2024-02-29 12:30:05.007'", "NULL", "'1969-12-31 23:59:59.999'"]);
    check("CAST(ts AS BIGINT)", ["1709209805007", "NULL", "-1"]);
    check("CAST(id AS TIMESTAMP)", ["@1", "@2", "@3"]);
    check("CAST(amount AS BIGINT)", ["12", "NULL", "-9999999999999999"]);
    check("CAST(x AS BIGINT)", ["2", "NULL", "0"]);
    check("CAST(x AS DECIMAL(4,1))", ["2.5", "NULL", "-0.1"]);
    check("CAST(amount AS DECIMAL(18,1))", ["12.5", "NULL", "-10000000000000000.0"]);
    check("CAST(amount AS DECIMAL(4,2))", ["12.50", "NULL", "NULL"]);
    check("CAST(amount AS DOUBLE)", ["12.5", "NULL", "-1e16"]);
    check("CAST(n AS DOUBLE)", ["7.0", "NULL", "-9.223372036854776e18"]);
    check("CAST(n AS DECIMAL(10,2))", ["7.00", "NULL", "NULL"]);
    check("CAST(ok AS BIGINT)", ["1", "NULL", "0"]);
    check("CAST(id AS BOOLEAN)", ["TRUE", "TRUE", "TRUE"]);
    check("CAST(name AS BIGINT)", ["NULL", "NULL", "NULL"]);
    check("TRY_CAST(name AS DOUBLE)", ["NULL", "NULL", "NULL"]);
    check("CAST(raw AS STRING)", ["'bytes'", "NULL", "''"]);
    check("CAST(NULL AS STRING)", ["NULL", "NULL", "NULL"]);
    check_constant("CAST('12.7' AS BIGINT)", "12");
    check_constant("CAST('12.755' AS DECIMAL(10,2))", "12.76");
    check_constant("CAST('yes' AS BOOLEAN)", "TRUE");
    check_constant("CAST('2024-02-29' AS TIMESTAMP)", "@1709164800000");
    check_constant("CAST('2024-02-30' AS TIMESTAMP)", "NULL");
    check_constant("CAST(1e30 AS BIGINT)", "NULL");
}

#[test]
fn times() {
    check("ts > TIMESTAMP '2024-01-01 00:00:00'", ["TRUE", "NULL", "FALSE"]);
    check("ts > '2024-01-01 00:00:00'", ["TRUE", "NULL", "FALSE"]);
    check("ts + INTERVAL '5' MINUTE", ["@1709210105007", "NULL", "@299999"]);
    check("ts - INTERVAL '1.5' SECOND", ["@1709209803507", "NULL", "@-1501"]);
    check("INTERVAL '1' DAY + ts", ["@1709296205007", "NULL", "@86399999"]);
    check("ts + INTERVAL '1' YEAR", ["@1740745805007", "NULL", "@31535999999"]);
    check("ts + id * INTERVAL '1' HOUR", ["@1709213405007", "NULL", "@10799999"]);
    check("ts - TIMESTAMP '1970-01-01'", ["1709209805007", "NULL", "-1"]);
    check("ts - TIMESTAMP '1970-01-01' < INTERVAL '1' HOUR", ["FALSE", "NULL", "TRUE"]);
    check(
        "ts BETWEEN TIMESTAMP '1960-01-01' AND TIMESTAMP '1970-01-01'",
        ["FALSE", "NULL", "TRUE"],
    );
    check("DATE_TRUNC('hour', ts)", ["@1709208000000", "NULL", "@-3600000"]);
    check("FLOOR(ts TO DAY)", ["@1709164800000", "NULL", "@-86400000"]);
    check("CEIL(ts TO DAY)", ["@1709251200000", "NULL", "@0"]);
    check("EXTRACT(YEAR FROM ts)", ["2024", "NULL", "1969"]);
    check("EXTRACT(DOW FROM ts)", ["5", "NULL", "4"]);
    check("EXTRACT(MILLISECOND FROM ts)", ["7", "NULL", "999"]);
    check("EXTRACT(EPOCH FROM ts)", ["1709209805", "NULL", "-1"]);
    check("EXTRACT(WEEK FROM ts)", ["9", "NULL", "1"]);
    check("HOUR(ts)", ["12", "NULL", "23"]);
    check(
        "DATE_FORMAT(ts, 'yyyy-MM-dd HH:mm')",
        ["'2024-02-29 12:30'", "NULL", "'1969-12-31 23:59'"],
    );
    check("TIMESTAMPDIFF(DAY, TIMESTAMP '1970-01-01', ts)", ["19782", "NULL", "0"]);
    check("TIMESTAMPDIFF(MONTH, ts, TIMESTAMP '1970-01-01')", ["-649", "NULL", "0"]);
    check("TIMESTAMPADD(MONTH, id, ts)", ["@1711715405007", "NULL", "@7775999999"]);
}

#[test]
fn keywords_may_be_columns() {
    let names = [
        "type",
        "ts",
        "user",
        "page",
        "value",
        "count",
        "start",
        "end",
        "timestamp",
        "date",
        "time",
        "year",
        "month",
        "day",
        "hour",
        "key",
        "first",
        "last",
        "text",
        "name",
        "status",
        "state",
        "session",
        "window",
        "row",
        "rows",
        "range",
        "level",
        "zone",
        "position",
        "action",
        "action_type",
        "language",
        "source",
        "index",
        "token",
        "price",
        "temperature",
        "sensor",
        "id",
        "url",
        "host",
        "ip",
        "method",
        "char",
    ];
    for data_type in [DataType::BigInt, DataType::Timestamp] {
        let columns = names.iter().map(|name| Column::new(*name, data_type.clone())).collect();
        let scope = Scope::qualified("t", &Schema::new(columns));
        let one = if data_type == DataType::BigInt { "1" } else { "INTERVAL '1' DAY" };
        for name in names {
            for text in [
                name.to_string(),
                format!("{name} = {name}"),
                format!("{name} - {one}"),
                format!("{name} + {one} > {name} AND {name} IS NOT NULL OR {name} IN ({name})"),
                format!("CASE WHEN {name} < {name} THEN {name} ELSE {name} END"),
                format!("t.{name} BETWEEN {name} AND {name}"),
                format!("COALESCE({name}, {name})"),
                format!("\"{name}\" <> {name}"),
                format!("({name})"),
                format!("CAST({name} AS BIGINT) > 5"),
            ] {
                if let Err(error) = Program::compile(&text, &scope) {
                    panic!("{text}: {error}");
                }
            }
        }
    }
}

#[test]
fn common_parts_are_computed_once() {
    let program =
        compile("(n + 1) * (n + 1) > 10 AND (n + 1) * (n + 1) < 20 OR n + 1 = 3").unwrap();
    let nested = format!("{program:?}");
    assert_eq!(nested.matches("op: AddInt").count(), 1);
    assert_eq!(nested.matches("op: MulInt").count(), 1);
    assert_eq!(nested.matches("op: Load").count(), 1);
    assert_eq!(program.columns(), [1]);
    assert_eq!(compile("n").unwrap().as_column(), Some(1));
    assert_eq!(compile("ok").unwrap().as_column(), Some(5));
    assert_eq!(compile("NOT ok").unwrap().as_column(), None);
}

#[test]
fn rows_are_selected_in_order() {
    let scope = Scope::of(&schema());
    let found = evaluate("id * 10", &batch(), &scope, &[2, 0, 0, 1]);
    assert_eq!(found, ["30", "10", "10", "20"]);
    assert!(evaluate("name", &batch(), &scope, &[]).is_empty());
    assert!(evaluate("n > 3 AND name LIKE '%a%'", &batch(), &scope, &[]).is_empty());
}
