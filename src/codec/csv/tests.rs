//! One `check` for what the decoder says of a text, and rows that come back from their text.

use proptest::prelude::*;

use super::*;
use crate::codec::{EncodeOptions, Encoder};
use crate::ground::schema::Column;

fn schema() -> Schema {
    Schema::new(vec![
        Column::new("id", DataType::BigInt).not_null(),
        Column::new("price", DataType::Decimal { precision: 6, scale: 2 }),
        Column::new("name", DataType::String),
        Column::new("at", DataType::Timestamp),
        Column::new("ok", DataType::Boolean),
        Column::new("f", DataType::Double),
        Column::new("b", DataType::Bytes),
    ])
}

/// Decodes a text, then writes what came out: rows as CSV, rejected lines as `! reason @ byte`.
fn decode(options: &DecodeOptions, text: &[u8], rows_max: usize) -> Vec<String> {
    decode_with(&mut CsvDecoder::new(&schema(), options).unwrap(), text, rows_max)
}

fn decode_with(decoder: &mut CsvDecoder, text: &[u8], rows_max: usize) -> Vec<String> {
    let mut encoder = CsvEncoder::new(&schema(), &EncodeOptions::default()).unwrap();
    let mut padded = text.to_vec();
    padded.resize(text.len() + 64, 0);
    let (mut out, mut rejected) = (BatchBuilder::new(7, 0), BatchBuilder::new(3, 0));
    let (mut at, mut said) = (0, Vec::new());
    while at < text.len() {
        let len = text.len();
        let count =
            decoder.decode(&padded, len, &mut at, "f", 0, rows_max, &mut out, &mut rejected);
        let (batch, bad) = (out.finish(), rejected.finish());
        assert_eq!(count.taken, batch.rows() as u64);
        assert_eq!(count.rejected, bad.rows() as u64);
        batch.check_heap(&schema()).unwrap();
        let mut lines = Vec::new();
        let select: Vec<u32> = (0..batch.rows() as u32).collect();
        encoder.encode(&batch, &select, &mut lines);
        said.extend(String::from_utf8(lines).unwrap().lines().map(String::from));
        for row in 0..bad.rows() {
            let text = |c| String::from_utf8_lossy(bad.get_bytes(row, c).unwrap()).into_owned();
            said.push(format!("! {} @ {}", text(1), text(2)));
        }
    }
    said
}

#[track_caller]
fn check(text: &str, expected: &[&str]) {
    assert_eq!(decode(&DecodeOptions::default(), text.as_bytes(), 1), expected);
}

#[test]
fn lines_become_rows() {
    check("1,2.5,x,3,true,4.5,AQI=\n", &["1,2.50,x,3,true,4.5,AQI="]);
    check("1,2.5,x,3,TRUE,4,\"AQI=\"\r\n", &["1,2.50,x,3,true,4.0,AQI="]);
    check("1,,,,,,", &["1,,,,,,"]);
    check("1,,\"\",,,,", &["1,,\"\",,,,"]);
    check("1,,\"a \"\"b\"\", c\",,,,", &["1,,\"a \"\"b\"\", c\",,,,"]);
    check("\"1\",\" 2.5 \",x, 3 ,,,", &["1,2.50,x,3,,,"]);
    check("1,,x\"y,1970-01-01T00:00:01Z,,,", &["1,,\"x\"\"y\",1000,,,"]);
    check("\n \n\r\n1,,,,,,\n", &["1,,,,,,"]);
    check("\u{FEFF}1,,,,,,\n", &["1,,,,,,"]);
}

#[test]
fn wrong_lines_say_why() {
    check("1,2\n", &["! 2 fields where there should be 7 @ f:byte 0"]);
    check("1,,,,,,\n1,,,,,,,,\n", &["1,,,,,,", "! 9 fields where there should be 7 @ f:byte 8"]);
    check(",,,,,,", &["! field `id`: NULL in a NOT NULL column @ f:byte 0"]);
    check("x,,,,,,", &["! field `id`: expected BIGINT, found what is no number @ f:byte 0"]);
    check("1.5,,,,,,", &["! field `id`: expected BIGINT, found a fraction @ f:byte 0"]);
    check(
        "1,1.234,,,,,",
        &["! field `price`: the number has more fraction digits than DECIMAL(6,2) @ f:byte 0"],
    );
    check(
        "1,12345,,,,,",
        &["! field `price`: the number has more digits than DECIMAL(6,2) @ f:byte 0"],
    );
    check(
        "1,,,soon,,,",
        &[
            "! field `at`: expected TIMESTAMP as milliseconds or RFC 3339, found another text @ f:byte 0",
        ],
    );
    check("1,,,,2,,", &["! field `ok`: expected BOOLEAN, found another text @ f:byte 0"]);
    check("1,,,,,,*", &["! field `b`: expected BYTES as base64, found another text @ f:byte 0"]);
    check("1,,\"x\"y,,,,", &["! something follows the quote that ends a field @ f:byte 0"]);
    let why = "! a quoted field does not end in its line; a newline in quotes cannot be read, \
               because lines are decoded in parallel @ f:byte 0";
    check(
        "1,,\"x\ny\",,,,",
        &[why, "! field `id`: expected BIGINT, found what is no number @ f:byte 6"],
    );
    let said = decode(&DecodeOptions::default(), b"1,,\xFF,,,,", 1);
    assert_eq!(said, ["! field `name`: not UTF-8 @ f:byte 0"]);
    let options = DecodeOptions { event_time: Some(3) };
    let said = decode(&options, b"1,,,,,,", 1);
    assert_eq!(said, ["! field `at`: the event time is missing @ f:byte 0"]);
}

#[test]
fn a_header_gives_the_order() {
    let said = |heads: &[&[u8]], text: &[u8]| {
        let mut decoder = CsvDecoder::new(&schema(), &DecodeOptions::default()).unwrap();
        for head in heads {
            decoder.head(head).unwrap();
        }
        decode_with(&mut decoder, text, 1)
    };
    assert_eq!(said(&[b"name,other,id"], b"x,y,1\n,,2"), ["1,,x,,,,", "2,,,,,,"]);
    assert_eq!(said(&[b"name,id", b"id,ok"], b"1,true\n"), ["1,,,,true,,"]);
    let few = "! 1 fields where there should be 2 @ f:byte 0";
    assert_eq!(said(&[b"id,name"], b"1\n2,x\n"), [few, "2,,x,,,,"]);
    let null = "! field `id`: NULL in a NOT NULL column @ f:byte 0";
    assert_eq!(said(&[b"name,id"], b"x,\n"), [null]);
}

#[test]
fn what_cannot_be_written_is_refused_and_a_head_is_a_line_of_names() {
    let array = Column::new("a", DataType::Array(Box::new(DataType::BigInt)));
    let refused = CsvEncoder::new(&Schema::new(vec![array]), &EncodeOptions::default());
    let message = refused.err().unwrap().to_string();
    assert_eq!(message, "format `csv` cannot hold column `a` of type ARRAY<BIGINT>");
    let mut encoder =
        CsvEncoder::new(&schema(), &EncodeOptions { csv_header: true, ..Default::default() })
            .unwrap();
    let mut head = Vec::new();
    encoder.head(&mut head);
    assert_eq!(head, b"id,price,name,at,ok,f,b\n");
}

proptest! {
    #[test]
    fn rows_come_back_from_their_text(
        rows in proptest::collection::vec((
            any::<i64>(),
            proptest::option::of(-999_999i64..=999_999),
            proptest::option::of("[ -~é]{0,20}"),
            proptest::option::of(-62_167_219_200_000i64..253_402_300_800_000),
            proptest::option::of(any::<bool>()),
            proptest::option::of(any::<f64>().prop_filter("NULL otherwise", |v| v.is_finite())),
            proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20)),
        ), 0..30),
        timestamps_rfc3339 in any::<bool>(), rows_max in 1..40usize
    ) {
        let mut builder = BatchBuilder::new(7, 0);
        for (i, d, s, t, o, f, b) in &rows {
            let heap = &mut builder.heap;
            let values = [
                Some(*i as u64), d.map(|d| d as u64),
                s.as_ref().map(|s| slot::put(s.as_bytes(), heap)),
                t.map(|t| t as u64), o.map(u64::from), f.map(f64::to_bits),
                b.as_ref().map(|b| slot::put(b, heap)),
            ];
            let nulls = (0..7).map(|c| u64::from(values[c].is_none()) << c).sum();
            builder.push_nulls(&values.map(|v| v.unwrap_or(0)), &[nulls]);
        }
        let batch = builder.finish();
        let select: Vec<u32> = (0..rows.len() as u32).collect();
        let encode = |timestamps_rfc3339| {
            let options = EncodeOptions { timestamps_rfc3339, csv_header: false };
            let mut text = Vec::new();
            CsvEncoder::new(&schema(), &options).unwrap().encode(&batch, &select, &mut text);
            String::from_utf8(text).unwrap()
        };
        let plain = encode(false);
        let expected: Vec<&str> = plain.lines().collect();
        let text = encode(timestamps_rfc3339);
        prop_assert_eq!(decode(&DecodeOptions::default(), text.as_bytes(), rows_max), expected);
    }
}
