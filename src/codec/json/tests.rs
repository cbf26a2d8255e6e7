//! One `check` for what decoders say of a text, and the thorough reader as the oracle of guesses.

use proptest::prelude::*;

use super::*;
use crate::codec::{EncodeOptions, Encoder, rejected_schema};
use crate::ground::batch::RecordBatch;
use crate::ground::schema::{Column, DataType};
use crate::ground::slot;

/// One value, readably.
fn show(batch: &RecordBatch, row: usize, column: usize, data_type: &DataType) -> String {
    let Some(value) = batch.get(row, column) else {
        assert_eq!(batch.row(row)[column], 0, "a NULL's slot is 0");
        return "NULL".into();
    };
    match data_type {
        DataType::Double => format!("{:?}", f64::from_bits(value)),
        DataType::String => {
            let bytes = slot::bytes(&value, batch.heap());
            format!("{:?}", std::str::from_utf8(bytes).expect("texts are UTF-8"))
        }
        DataType::Bytes => format!("{:?}", slot::bytes(&value, batch.heap())),
        DataType::Array(_) => {
            let mut encoder = JsonEncoder::new(
                &Schema::new(vec![Column::new("a", data_type.clone())]),
                &EncodeOptions::default(),
            );
            let mut out = Vec::new();
            let mut one = BatchBuilder::new(1, 1);
            let moved = slot::rehome(value, batch.heap(), &mut one.heap);
            one.push(&[moved]);
            encoder.encode(&one.finish(), &[0], &mut out);
            String::from_utf8(out).expect("JSON is UTF-8")
        }
        _ => (value as i64).to_string(),
    }
}

/// Decodes a text; rows as `a|b`, rejected lines as `! reason @ position`, both in their orders.
fn decode(decoder: &mut JsonDecoder, text: &[u8], rows_max: usize) -> (Vec<String>, Vec<String>) {
    let schema = decoder.reader.schema.clone();
    let mut padded = text.to_vec();
    padded.resize(text.len() + 64, 0);
    let mut out = BatchBuilder::new(schema.width(), 0);
    let mut rejected = BatchBuilder::new(3, 0);
    let (mut at, mut rows, mut wrong) = (0, Vec::new(), Vec::new());
    while at < text.len() {
        let before = at;
        let len = text.len();
        let count =
            decoder.decode(&padded, len, &mut at, "f", 100, rows_max, &mut out, &mut rejected);
        assert!(at > before, "every call gets on");
        let (batch, bad) = (out.finish(), rejected.finish());
        assert_eq!(count.taken, batch.rows() as u64);
        assert_eq!(count.rejected, bad.rows() as u64);
        batch.check_heap(&schema).expect("slots point into the heap");
        for row in 0..batch.rows() {
            let value = |(i, c): (usize, &Column)| show(&batch, row, i, &c.data_type);
            let values: Vec<String> = schema.columns.iter().enumerate().map(value).collect();
            rows.push(values.join("|"));
        }
        bad.check_heap(&rejected_schema()).expect("slots point into the heap");
        for row in 0..bad.rows() {
            let text = |c| String::from_utf8_lossy(bad.get_bytes(row, c).unwrap()).into_owned();
            wrong.push(format!("{} @ {}", text(1), text(2)));
        }
    }
    (rows, wrong)
}

fn schema_of(columns: &[(&str, DataType)]) -> Schema {
    let column = |(name, data_type): &(&str, DataType)| {
        let (name, not_null) = match name.strip_suffix('!') {
            Some(name) => (name, true),
            None => (*name, false),
        };
        let (name, path) = name.split_once('=').unwrap_or((name, ""));
        let mut column = Column::new(name, data_type.clone());
        column.nullable = !not_null;
        column.path = path.split('.').filter(|part| !part.is_empty()).map(Into::into).collect();
        column
    };
    Schema::new(columns.iter().map(column).collect())
}

const DECIMAL: DataType = DataType::Decimal { precision: 6, scale: 2 };

/// Checks what a decoder says of a line: the row, or `! reason`, or nothing; alone, and among lines
/// that have taught it something.
#[track_caller]
fn check(columns: &[(&str, DataType)], line: impl AsRef<[u8]>, expected: &str) {
    let line = line.as_ref();
    let schema = schema_of(columns);
    for copies in [1, 300] {
        let mut text = Vec::new();
        for _ in 0..copies {
            text.extend_from_slice(line);
            text.push(b'\n');
        }
        for end in [0, 1] {
            let text = &text[..text.len() - end];
            let mut decoder = JsonDecoder::new(&schema, &DecodeOptions::default());
            let (rows, wrong) = decode(&mut decoder, text, 1000);
            let position = |i: usize| 100 + i * (line.len() + 1);
            match expected.strip_prefix("! ") {
                _ if expected.is_empty() => assert_eq!((rows.len(), wrong.len()), (0, 0)),
                Some(reason) => {
                    assert_eq!(rows, Vec::<String>::new());
                    assert_eq!(wrong.len(), copies);
                    for (i, wrong) in wrong.iter().enumerate() {
                        assert_eq!(*wrong, format!("{reason} @ f:byte {}", position(i)));
                    }
                }
                None => {
                    assert_eq!(wrong, Vec::<String>::new());
                    assert_eq!(rows, vec![expected; copies]);
                }
            }
        }
    }
}

#[test]
fn values_of_each_type() {
    let big = |text: &str, expected| {
        check(&[("a", DataType::BigInt)], format!(r#"{{"a":{text}}}"#), expected)
    };
    big("5", "5");
    big("-5", "-5");
    big("-0", "0");
    big("12345678", "12345678");
    big("123456789012345678", "123456789012345678");
    big("9223372036854775807", "9223372036854775807");
    big("-9223372036854775808", "-9223372036854775808");
    big("5.0", "5");
    big("5e3", "5000");
    big("1.5E+1", "15");
    big("1500e-2", "15");
    big("0e999999999999999999999", "0");
    big("null", "NULL");
    let dec =
        |text: &str, expected| check(&[("a", DECIMAL)], format!(r#"{{"a":{text}}}"#), expected);
    dec("12.5", "1250");
    dec("12.50", "1250");
    dec("12", "1200");
    dec("-0.05", "-5");
    dec("9999.99", "999999");
    dec("1.2300000000", "123");
    dec("1e2", "10000");
    dec("125e-2", "125");
    let double = |text: &str, expected| {
        check(&[("a", DataType::Double)], format!(r#"{{"a":{text}}}"#), expected);
    };
    double("5", "5.0");
    double("-0.0", "-0.0");
    double("0.1", "0.1");
    double("1e300", "1e300");
    double("123456789.12345678", "123456789.12345678");
    double("0.12345678901234567890", "0.12345678901234568");
    double("9007199254740993", "9007199254740992.0");
    let string = |text: &str, expected| {
        check(&[("a", DataType::String)], format!(r#"{{"a":{text}}}"#), expected);
    };
    string(r#""""#, r#""""#);
    string(r#""1234567""#, r#""1234567""#);
    string(r#""12345678""#, r#""12345678""#);
    string(r#""123456789012345""#, r#""123456789012345""#);
    string(r#""a text that is longer than sixteen""#, r#""a text that is longer than sixteen""#);
    string(r#""a\"\\\/\b\f\n\r\t\u0041\ud83d\ude00""#, "\"a\\\"\\\\/\\u{8}\\u{c}\\n\\r\\tA😀\"");
    string(r#""Grüße""#, r#""Grüße""#);
    check(&[("a", DataType::Boolean)], r#"{"a":true}"#, "1");
    check(&[("a", DataType::Boolean)], r#"{"a":false}"#, "0");
    check(&[("a", DataType::Bytes)], r#"{"a":"AQL/"}"#, "[1, 2, 255]");
    check(&[("a", DataType::Timestamp)], r#"{"a":1700000000123}"#, "1700000000123");
    check(&[("a", DataType::Timestamp)], r#"{"a":"2023-11-14T22:13:20.123Z"}"#, "1700000000123");
    check(&[("a", DataType::Timestamp)], r#"{"a":"1969-12-31T23:59:59.9999Z"}"#, "-1");
    check(&[("a", DataType::Timestamp)], r#"{"a":"2023-11-14T23:13:20+01:00"}"#, "1700000000000");
    let array = DataType::Array(Box::new(DataType::Array(Box::new(DataType::String))));
    let text = r#"{"a":[["x","a longer text"],[],null,[null]]}"#;
    check(&[("a", array)], text, &format!("{text}\n"));
}

#[test]
fn fields_are_found_wherever_they_are() {
    let columns = [
        ("id", DataType::BigInt),
        ("price=bid.price", DataType::BigInt),
        ("who=bid.by.name", DataType::String),
    ];
    let check = |line: &str, expected| check(&columns, line, expected);
    check(r#"{"id":1,"bid":{"price":2,"by":{"name":"x"}}}"#, r#"1|2|"x""#);
    check(
        "\t { \"bid\" : { \"by\" : { \"name\" : \"x\" } , \"price\" : 2 } , \"id\" : 1 } \r",
        r#"1|2|"x""#,
    );
    check(r#"{"id":1}"#, "1|NULL|NULL");
    check(r#"{"id":1,"bid":null}"#, "1|NULL|NULL");
    check(r#"{"id":1,"bid":{}}"#, "1|NULL|NULL");
    check(r#"{}"#, "NULL|NULL|NULL");
    check(r#"{"x":[1,{"id":5},"]}"],"id":1,"y":{"z":{}},"w":-1.5e-3}"#, "1|NULL|NULL");
    check(r#"{"id":1,"bid":7}"#, "! expected an object, found a number (byte 14 of the line)");
    check(r#"{"id":1,"id":2}"#, "2|NULL|NULL");
    check(r#"{"id":1,"id":null}"#, "NULL|NULL|NULL");
    check(r#"{"id":null,"id":3}"#, "3|NULL|NULL");
    check(r#"{"bid":{"price":2},"bid":{"by":{"name":"x"}}}"#, r#"NULL|NULL|"x""#);
    check(r#"{"bid":{"price":2},"bid":null}"#, "NULL|NULL|NULL");
    check(r#"{"\u0069d":4}"#, "4|NULL|NULL");
    check("", "");
    check(" \t\r", "");
    let names = [
        ("a_name_of_twenty_letters", DataType::BigInt),
        ("a_name_of_twenty_lettres", DataType::BigInt),
    ];
    super::tests::check(
        &names,
        r#"{"a_name_of_twenty_lettres":1,"a_name_of_twenty_letters":2}"#,
        "2|1",
    );
    let names = [("a_name_of_17_char", DataType::BigInt), ("b", DataType::BigInt)];
    super::tests::check(&names, r#"{"a_name_of_17_cha":1,"":2,"b":3}"#, "NULL|3");
    super::tests::check(&names, r#"{"a_name_of_17_char":1,"a_name_of_17_chars":2}"#, "1|NULL");
    let both = [("a=x", DataType::BigInt), ("b=x", DataType::Double)];
    super::tests::check(&both, r#"{"x":5}"#, "5|5.0");
    let wide: Vec<(String, DataType)> =
        (0..130).map(|i| (format!("c{i}"), DataType::BigInt)).collect();
    let wide: Vec<(&str, DataType)> = wide.iter().map(|(n, t)| (&n[..], t.clone())).collect();
    let mut expected = vec!["NULL"; 130];
    (expected[3], expected[129]) = ("1", "2");
    super::tests::check(&wide, r#"{"c3":1,"c129":2}"#, &expected.join("|"));
}

#[test]
fn wrong_lines_say_why() {
    let columns = [
        ("a", DataType::BigInt),
        ("d", DECIMAL),
        ("s", DataType::String),
        ("t", DataType::Timestamp),
        ("b", DataType::Bytes),
        ("f", DataType::Double),
        ("l", DataType::Boolean),
        ("r", DataType::Array(Box::new(DataType::BigInt))),
    ];
    let check = |line: &str, expected: &str| check(&columns, line, &format!("! {expected}"));
    check("[1]", "expected `{` (byte 0 of the line)");
    check("null", "expected `{` (byte 0 of the line)");
    check(r#"{"a":1}x"#, "something follows the object (byte 7 of the line)");
    check(r#"{"a":1} {"a":2}"#, "something follows the object (byte 8 of the line)");
    check(r#"{"a":1"#, "the line ends where `,` or `}` should stand");
    check(r#"{"a":"#, "the line ends where a value should stand");
    check(r#"{"a""#, "the line ends where `:` should stand");
    check(r#"{"s":"abc"#, "the line ends inside a string");
    check(r#"{"a":1,}"#, "expected a name (byte 7 of the line)");
    check(r#"{"a" 1}"#, "expected `:` (byte 5 of the line)");
    check(r#"{"a":1 "s":""}"#, "expected `,` or `}` (byte 7 of the line)");
    check(r#"{'a':1}"#, "expected a name (byte 1 of the line)");
    check(r#"{"a":01}"#, "expected a number (byte 5 of the line)");
    check(r#"{"a":-}"#, "expected a number (byte 5 of the line)");
    check(r#"{"a":1.}"#, "expected a number (byte 5 of the line)");
    check(r#"{"a":+1}"#, "expected a value (byte 5 of the line)");
    check(r#"{"x":NaN}"#, "expected a value (byte 5 of the line)");
    check(r#"{"x":tru}"#, "expected a value (byte 5 of the line)");
    check(r#"{"x":[1,}"#, "expected a value (byte 8 of the line)");
    check(r#"{"x":[1}"#, "expected `,` or `]` (byte 7 of the line)");
    check(r#"{"a":"abc"}"#, "field `a`: expected BIGINT, found a string (byte 5 of the line)");
    check(r#"{"a":"5"}"#, "field `a`: expected BIGINT, found a string (byte 5 of the line)");
    check(r#"{"a":true}"#, "field `a`: expected BIGINT, found a boolean (byte 5 of the line)");
    check(r#"{"a":{"b":1}}"#, "field `a`: expected BIGINT, found an object (byte 5 of the line)");
    check(r#"{"a":1.5}"#, "field `a`: expected BIGINT, found a fraction (byte 5 of the line)");
    check(
        r#"{"a":9223372036854775808}"#,
        "field `a`: the number is out of the range of BIGINT (byte 5 of the line)",
    );
    check(
        r#"{"a":1e19}"#,
        "field `a`: the number is out of the range of BIGINT (byte 5 of the line)",
    );
    check(
        r#"{"a":1e99999999999999999999}"#,
        "field `a`: the number is out of the range of BIGINT (byte 5 of the line)",
    );
    check(
        r#"{"d":1.234}"#,
        "field `d`: the number has more fraction digits than DECIMAL(6,2) (byte 5 of the line)",
    );
    check(
        r#"{"d":10000}"#,
        "field `d`: the number has more digits than DECIMAL(6,2) (byte 5 of the line)",
    );
    check(
        r#"{"d":10000.00}"#,
        "field `d`: the number has more digits than DECIMAL(6,2) (byte 5 of the line)",
    );
    check(
        r#"{"d":1e30}"#,
        "field `d`: the number has more digits than DECIMAL(6,2) (byte 5 of the line)",
    );
    check(r#"{"s":5}"#, "field `s`: expected STRING, found a number (byte 5 of the line)");
    check(r#"{"s":["x"]}"#, "field `s`: expected STRING, found an array (byte 5 of the line)");
    check(r#"{"s":"\x"}"#, "a wrong escape in a string (byte 6 of the line)");
    check(r#"{"s":"\ud83d"}"#, "a wrong escape in a string (byte 6 of the line)");
    check(r#"{"s":"\u12"}"#, "a wrong escape in a string (byte 6 of the line)");
    check("{\"s\":\"a\u{1}\"}", "a control character in a string (byte 7 of the line)");
    check(
        r#"{"t":"yesterday"}"#,
        "field `t`: expected TIMESTAMP as milliseconds or RFC 3339, found another text (byte 5 of the line)",
    );
    check(r#"{"t":1.5}"#, "field `t`: expected TIMESTAMP, found a fraction (byte 5 of the line)");
    check(
        r#"{"b":"*"}"#,
        "field `b`: expected BYTES as base64, found another text (byte 5 of the line)",
    );
    check(
        r#"{"f":1e999}"#,
        "field `f`: the number is out of the range of DOUBLE (byte 5 of the line)",
    );
    check(r#"{"l":1}"#, "field `l`: expected BOOLEAN, found a number (byte 5 of the line)");
    check(
        r#"{"r":[1,"x"]}"#,
        "field `r`: expected BIGINT[], found a string (byte 8 of the line)"
            .replace("BIGINT[]", "ARRAY<BIGINT>")
            .as_str(),
    );
    let deep = format!("{{\"x\":{}1{}}}", "[".repeat(129), "]".repeat(129));
    check(&deep, "nested too deeply (byte 133 of the line)");
    super::tests::check(&columns, b"{\"s\":\"\xFF\"}", "! not UTF-8 (byte 6 of the line)");
    super::tests::check(&columns, b"{\"x\":\"\xC3\"}", "! not UTF-8 (byte 6 of the line)");
    super::tests::check(&columns, b"{\"a\":1,\0}", "! expected a name (byte 7 of the line)");
    super::tests::check(
        &[("a!", DataType::BigInt)],
        r#"{"b":1}"#,
        "! field `a`: NULL in a NOT NULL column",
    );
    super::tests::check(
        &[("a!", DataType::BigInt)],
        r#"{"a":null}"#,
        "! field `a`: NULL in a NOT NULL column",
    );
}

#[test]
fn a_missing_event_time_is_refused() {
    let schema = schema_of(&[("a", DataType::BigInt), ("ts", DataType::Timestamp)]);
    let options = DecodeOptions { event_time: Some(1) };
    let mut decoder = JsonDecoder::new(&schema, &options);
    let (rows, wrong) =
        decode(&mut decoder, b"{\"a\":1,\"ts\":5}\n{\"a\":1,\"ts\":null}\n{}\n", 10);
    assert_eq!(rows, ["1|5"]);
    let reason = "field `ts`: the event time is missing @ f:byte ";
    assert_eq!(wrong, [format!("{reason}115"), format!("{reason}133")]);
}

#[test]
fn a_byte_order_mark_at_the_start_of_a_file_is_let_be() {
    let schema = schema_of(&[("a", DataType::BigInt)]);
    let mut padded = b"\xEF\xBB\xBF{\"a\":1}\n\xEF\xBB\xBF{\"a\":2}\n".to_vec();
    let len = padded.len();
    padded.resize(len + 64, 0);
    let mut decoder = JsonDecoder::new(&schema, &DecodeOptions::default());
    let (mut out, mut rejected) = (BatchBuilder::new(1, 0), BatchBuilder::new(3, 0));
    let count = decoder.decode(&padded, len, &mut 0, "f", 0, 100, &mut out, &mut rejected);
    assert_eq!(count, DecodeCount { taken: 1, rejected: 1 });
}

#[test]
fn wrong_lines_leave_no_gap_and_full_batches_end() {
    let schema = schema_of(&[("a", DataType::BigInt), ("s", DataType::String)]);
    let mut text = String::new();
    let (mut expected, mut wrong_lines) = (Vec::new(), 0);
    for i in 0..1000 {
        match i % 7 {
            3 => {
                text += "{\"a\":x}\n";
                wrong_lines += 1;
            }
            5 => text += "\n",
            6 => {
                text += &format!("{{\"s\":\"a text on the heap {i}\"}}\n");
                expected.push(format!("NULL|\"a text on the heap {i}\""));
            }
            _ => {
                text += &format!("{{\"a\":{i},\"s\":\"{i}\"}}\n");
                expected.push(format!("{i}|\"{i}\""));
            }
        }
    }
    for rows_max in [1, 7, 128, 1024] {
        let mut decoder = JsonDecoder::new(&schema, &DecodeOptions::default());
        let (rows, wrong) = decode(&mut decoder, text.as_bytes(), rows_max);
        assert_eq!(rows, expected);
        assert_eq!(wrong.len(), wrong_lines);
    }
}

/// A schema in which every type and a nested field occur.
fn rich_schema() -> Schema {
    schema_of(&[
        ("id", DataType::BigInt),
        ("amount", DataType::Decimal { precision: 12, scale: 3 }),
        ("ratio", DataType::Double),
        ("name", DataType::String),
        ("ok", DataType::Boolean),
        ("ts", DataType::Timestamp),
        ("deep=in.deep", DataType::BigInt),
        ("text=in.text", DataType::String),
        ("blob", DataType::Bytes),
        ("list", DataType::Array(Box::new(DataType::BigInt))),
        ("must!", DataType::BigInt),
    ])
}

fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<i64>().prop_map(|v| v.to_string()),
        (-1000..1000i64).prop_map(|v| v.to_string()),
        (any::<f32>()).prop_filter("finite", |v| v.is_finite()).prop_map(|v| format!("{v:?}")),
        (-99999i64..99999, 0..6u32)
            .prop_map(|(v, s)| format!("{}", v as f64 / 10f64.powi(s as i32))),
        (0..100i64, 0..30u32).prop_map(|(v, e)| format!("{v}e{e}")),
        Just("-0".to_string()),
        Just("0".to_string()),
        Just("00".to_string()),
        Just("1.50".to_string()),
    ]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "[a-z]{0,20}",
        1 => "[ -~]{0,40}",
        1 => any::<String>(),
    ]
    .prop_map(|text| serde_json::to_string(&text).expect("a string is JSON"))
}

fn any_value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![4 => number(), 4 => text(), 1 => Just("null".into()), 1 => Just("true".into()), 1 => Just("false".into()), 1 => Just("\"2023-11-14T22:13:20Z\"".into()), 1 => Just("\"AQL/\"".into())];
    leaf.prop_recursive(2, 8, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4)
                .prop_map(|v| format!("[{}]", v.join(","))),
            proptest::collection::vec((name(), inner), 0..4).prop_map(object),
        ]
    })
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        12 => proptest::sample::select(vec!["id", "amount", "ratio", "name", "ok", "ts", "in", "deep", "text", "blob", "list", "must"]).prop_map(String::from),
        1 => "[a-z]{0,20}", 1 => any::<String>(),
    ]
}

fn object(members: Vec<(String, String)>) -> String {
    let member = |(name, value): &(String, String)| {
        format!("{}:{value}", serde_json::to_string(name).expect("a string is JSON"))
    };
    format!("{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(","))
}

/// Lines that a stream of rows of the rich schema might have: in one or two layouts, mostly right.
fn stream() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let typed = |name: &'static str| -> BoxedStrategy<String> {
        let right: BoxedStrategy<String> = match name {
            "id" | "ts" | "deep" | "must" => {
                (-100_000..100_000i64).prop_map(|v| v.to_string()).boxed()
            }
            "amount" => (-99999..99999i64, 0..4usize)
                .prop_map(|(v, d)| format!("{:.d$}", v as f64 / 1000.0))
                .boxed(),
            "ratio" => any::<f64>()
                .prop_filter("finite", |v| v.is_finite())
                .prop_map(|v| format!("{v:?}"))
                .boxed(),
            "name" | "text" => text().boxed(),
            "ok" => any::<bool>().prop_map(|v| v.to_string()).boxed(),
            "blob" => Just("\"AQL/\"".to_string()).boxed(),
            "list" => {
                proptest::collection::vec(0..9u8, 0..4).prop_map(|v| format!("{v:?}")).boxed()
            }
            _ => any_value().boxed(),
        };
        prop_oneof![20 => right, 1 => Just("null".to_string()), 1 => any_value()].boxed()
    };
    let names = vec![
        "id", "amount", "ratio", "name", "ok", "ts", "deep", "text", "blob", "list", "must",
        "other",
    ];
    let layout = proptest::sample::subsequence(names, 1..12).prop_shuffle();
    (layout.clone(), layout, any::<bool>()).prop_flat_map(move |(one, two, spaced)| {
        let line = move |layout: Vec<&'static str>| {
            let fields: Vec<BoxedStrategy<String>> =
                layout.iter().map(|name| typed(name)).collect();
            (fields, any::<u8>(), any::<proptest::sample::Index>(), any::<u8>()).prop_map(
                move |(values, dice, at, byte)| {
                    let (mut top, mut inner) = (Vec::new(), Vec::new());
                    for (name, value) in layout.iter().zip(values) {
                        let list =
                            if matches!(*name, "deep" | "text") { &mut inner } else { &mut top };
                        list.push((name.to_string(), value));
                    }
                    if !inner.is_empty() {
                        top.insert(top.len() / 2, ("in".into(), object(inner)));
                    }
                    let mut line = object(top).into_bytes();
                    if spaced {
                        line = String::from_utf8(line)
                            .expect("JSON is UTF-8")
                            .replace(':', " : ")
                            .into_bytes();
                    }
                    match dice {
                        0..10 => line.truncate(at.index(line.len())),
                        10..20 => {
                            let at = at.index(line.len());
                            line[at] = byte;
                        }
                        20..30 => {
                            let at = at.index(line.len());
                            line.remove(at);
                        }
                        30..40 => line.insert(at.index(line.len()), byte),
                        40..45 => line.push(b'\r'),
                        _ => {}
                    }
                    line.retain(|&byte| byte != b'\n');
                    line
                },
            )
        };
        proptest::collection::vec(prop_oneof![3 => line(one), 1 => line(two)], 1..40)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn guesses_say_what_the_thorough_reader_says(lines in stream(), rows_max in 1..60usize) {
        let text: Vec<u8> = lines.join(&b'\n');
        let schema = rich_schema();
        let mut guessing = JsonDecoder::new(&schema, &DecodeOptions::default());
        let mut thorough = JsonDecoder::new(&schema, &DecodeOptions::default());
        thorough.patience = u64::MAX;
        thorough.places = None;
        let expected = decode(&mut thorough, &text, 1000);
        prop_assert!(thorough.layouts.is_empty());
        // Once while learning, once when it has learned.
        prop_assert_eq!(&decode(&mut guessing, &text, rows_max), &expected);
        prop_assert_eq!(&decode(&mut guessing, &text, 1000), &expected);
    }

    #[test]
    fn what_is_json_is_what_serde_says(value in any_value(),
        at in any::<proptest::sample::Index>(), byte in any::<u8>(), dice in 0..4u8) {
        let mut line = format!("{{\"x\":{value}}}").into_bytes();
        let at = at.index(line.len());
        match dice {
            0 => line[at] = byte,
            1 => { line.remove(at); }
            2 => line.insert(at, byte),
            _ => {}
        }
        line.retain(|&byte| byte != b'\n');
        let schema = schema_of(&[("y", DataType::BigInt)]);
        let mut decoder = JsonDecoder::new(&schema, &DecodeOptions::default());
        let (rows, wrong) = decode(&mut decoder, &line, 10);
        let oracle = serde_json::from_slice::<serde_json::Value>(&line);
        let blank = line.iter().all(|byte| b" \t\r".contains(byte));
        let valid = match &oracle {
            // Beyond an f64: a number all the same.
            Err(error) if error.to_string().contains("out of range") => return Ok(()),
            Err(_) => false,
            Ok(value) => value.as_object().is_some_and(|o| o.get("y").is_none_or(|y| y.is_i64() || y.is_null())),
        };
        prop_assert_eq!(rows.len() == 1, valid, "{:?} {:?}", wrong, oracle);
        prop_assert_eq!(wrong.len() == 1, !valid && !blank);
    }

    #[test]
    fn rows_come_back_from_their_text(
        rows in proptest::collection::vec((
            proptest::option::of(any::<i64>()),
            proptest::option::of(-999_999_999_999i64..=999_999_999_999),
            proptest::option::of(any::<f64>().prop_filter("JSON has no others", |v| v.is_finite())),
            proptest::option::of(any::<String>()),
            proptest::option::of(any::<bool>()),
            proptest::option::of(-62_167_219_200_000i64..253_402_300_800_000),
            proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20)),
            proptest::option::of(proptest::collection::vec(proptest::option::of("[a-z\"\\\\é]{0,12}"), 0..5)),
        ), 0..30),
        rfc3339 in any::<bool>()
    ) {
        let schema = schema_of(&[
            ("i", DataType::BigInt), ("d", DataType::Decimal { precision: 12, scale: 3 }), ("f", DataType::Double),
            ("s", DataType::String), ("b", DataType::Boolean), ("t", DataType::Timestamp), ("y", DataType::Bytes),
            ("a", DataType::Array(Box::new(DataType::String))),
        ]);
        let mut builder = BatchBuilder::new(8, 0);
        for (i, d, f, s, b, t, y, a) in &rows {
            let heap = &mut builder.heap;
            let mut array = slot::array::ArrayBuilder::default();
            for text in a.iter().flatten() {
                match text {
                    Some(text) => array.push_bytes(text.as_bytes()),
                    None => array.push(None),
                }
            }
            let values = [
                i.map(|i| i as u64), d.map(|d| d as u64), f.map(f64::to_bits),
                s.as_ref().map(|s| slot::put(s.as_bytes(), heap)), b.map(u64::from), t.map(|t| t as u64),
                y.as_ref().map(|y| slot::put(y, heap)),
                a.as_ref().map(|_| array.finish(heap).expect("short")),
            ];
            let nulls = (0..8).map(|c| u64::from(values[c].is_none()) << c).sum();
            builder.push_nulls(&values.map(|v| v.unwrap_or(0)), &[nulls]);
        }
        let batch = builder.finish();
        let select: Vec<u32> = (0..rows.len() as u32).collect();
        let mut text = Vec::new();
        JsonEncoder::new(&schema, &EncodeOptions { timestamps_rfc3339: rfc3339, csv_header: false })
            .encode(&batch, &select, &mut text);
        let line = |row| {
            let value = |(c, column): (usize, &Column)| show(&batch, row, c, &column.data_type);
            schema.columns.iter().enumerate().map(value).collect::<Vec<_>>().join("|")
        };
        let expected: Vec<String> = (0..rows.len()).map(line).collect();
        let mut decoder = JsonDecoder::new(&schema, &DecodeOptions::default());
        let (got, wrong) = decode(&mut decoder, &text, 7);
        prop_assert_eq!(wrong, Vec::<String>::new());
        prop_assert_eq!(got, expected);
        for line in text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            prop_assert!(serde_json::from_slice::<serde_json::Value>(line).is_ok());
        }
    }
}
