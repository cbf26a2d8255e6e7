//! What is known of a key, for people: values with their types, lists and fields, and their text.
//!
//! 1. As JSON a value is what a JSON sink writes of it: TIMESTAMP in milliseconds, DECIMAL with its
//!    full scale, BYTES as base64, a DOUBLE that is not finite as null.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::ground::decimal;
use crate::ground::schema::DataType;
use crate::ground::slot;
use crate::ground::slot::array::Elements;
use crate::ground::time::Time;

/// A value, or several.
#[derive(Clone, Debug, PartialEq)]
pub enum Shown {
    Null,
    Boolean(bool),
    Integer(i64),
    Double(f64),
    Decimal {
        value: i64,
        scale: u8,
    },
    Text(String),
    Bytes(Vec<u8>),
    /// Milliseconds since 1970.
    Time(Time),
    List(Vec<Shown>),
    /// Names and values, in order.
    Fields(Vec<(String, Shown)>),
}

impl Shown {
    /// A column's value; `heap` has its text if that is long.
    pub fn of(value: Option<u64>, heap: &[u8], data_type: &DataType) -> Shown {
        let Some(word) = value else { return Shown::Null };
        match data_type {
            DataType::Boolean => Shown::Boolean(word != 0),
            DataType::BigInt => Shown::Integer(word as i64),
            DataType::Double => Shown::Double(f64::from_bits(word)),
            DataType::Decimal { scale, .. } => Shown::Decimal { value: word as i64, scale: *scale },
            DataType::Timestamp => Shown::Time(word as Time),
            DataType::String => {
                Shown::Text(String::from_utf8_lossy(slot::bytes(&word, heap)).into_owned())
            }
            DataType::Bytes => Shown::Bytes(slot::bytes(&word, heap).to_vec()),
            DataType::Array(of) => match Elements::read(slot::bytes(&word, heap)) {
                Some(elements) => Shown::List(
                    (0..elements.len())
                        .map(|i| Shown::of(elements.get(i), elements.heap, of))
                        .collect(),
                ),
                None => Shown::Null,
            },
        }
    }

    /// The number of a value that is one exactly: of a DECIMAL, with its scale left out.
    pub fn number(&self) -> Option<i64> {
        match self {
            Shown::Integer(number) | Shown::Time(number) => Some(*number),
            Shown::Decimal { value, .. } => Some(*value),
            _ => None,
        }
    }

    /// A count.
    pub fn count(count: usize) -> Shown {
        Shown::Integer(count as i64)
    }

    /// Named values.
    pub fn fields<const N: usize>(fields: [(&str, Shown); N]) -> Shown {
        Shown::Fields(fields.map(|(name, value)| (name.to_string(), value)).into())
    }

    /// As JSON, on one line.
    pub fn to_json(&self) -> String {
        let mut out = String::new();
        self.put_json(&mut out);
        out
    }

    fn put_json(&self, out: &mut String) {
        match self {
            Shown::Null => out.push_str("null"),
            Shown::Double(value) if !value.is_finite() => out.push_str("null"),
            Shown::Text(text) => quote(text, out),
            Shown::Bytes(bytes) => quote(&STANDARD.encode(bytes), out),
            Shown::List(values) => {
                out.push('[');
                for (i, value) in values.iter().enumerate() {
                    out.push_str(if i > 0 { "," } else { "" });
                    value.put_json(out);
                }
                out.push(']');
            }
            Shown::Fields(fields) => {
                out.push('{');
                for (i, (name, value)) in fields.iter().enumerate() {
                    out.push_str(if i > 0 { "," } else { "" });
                    quote(name, out);
                    out.push(':');
                    value.put_json(out);
                }
                out.push('}');
            }
            Shown::Time(ms) => out.push_str(&ms.to_string()),
            plain => out.push_str(&plain.plain_text()),
        }
    }

    /// The text of a value that is neither a list nor has fields: as in JSON, but texts have no
    /// quotes and times are dates (RFC 3339) where they have any.
    pub fn plain_text(&self) -> String {
        match self {
            Shown::Null => "NULL".to_string(),
            Shown::Boolean(value) => value.to_string(),
            Shown::Integer(value) => value.to_string(),
            Shown::Double(value) if value.is_finite() => {
                ryu::Buffer::new().format_finite(*value).to_string()
            }
            Shown::Double(value) => value.to_string(),
            Shown::Decimal { value, scale } => {
                let mut text = Vec::new();
                decimal::format(*value, *scale, &mut text);
                String::from_utf8_lossy(&text).into_owned()
            }
            Shown::Text(text) => text.clone(),
            Shown::Bytes(bytes) => STANDARD.encode(bytes),
            Shown::Time(ms) => match jiff::Timestamp::from_millisecond(*ms) {
                Ok(time) => time.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string(),
                Err(_) => format!("{ms} ms"),
            },
            Shown::List(_) | Shown::Fields(_) => self.to_json(),
        }
    }
}

fn quote(text: &str, out: &mut String) {
    out.push_str(&serde_json::Value::from(text).to_string());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::slot::array::ArrayBuilder;

    #[test]
    fn values_are_written_as_a_json_sink_writes_them() {
        let mut heap = Vec::new();
        let long = slot::put(b"a \"long\" text\n", &mut heap);
        let mut array = ArrayBuilder::default();
        array.push(Some(250));
        array.push(None);
        let array = array.finish(&mut heap);
        let amount = DataType::Decimal { precision: 9, scale: 2 };
        let list = DataType::Array(Box::new(amount.clone()));
        for (value, data_type, json, text) in [
            (None, &DataType::String, "null", "NULL"),
            (Some(1), &DataType::Boolean, "true", "true"),
            (Some(-7i64 as u64), &DataType::BigInt, "-7", "-7"),
            (Some(2.5f64.to_bits()), &DataType::Double, "2.5", "2.5"),
            (Some(f64::NAN.to_bits()), &DataType::Double, "null", "NaN"),
            (Some(-5i64 as u64), &amount, "-0.05", "-0.05"),
            (Some(1500), &DataType::Timestamp, "1500", "1970-01-01T00:00:01.500Z"),
            (Some(long), &DataType::String, r#""a \"long\" text\n""#, "a \"long\" text\n"),
            (Some(slot::inline(b"abc")), &DataType::Bytes, "\"YWJj\"", "YWJj"),
            (array, &list, "[2.50,null]", "[2.50,null]"),
        ] {
            let shown = Shown::of(value, &heap, data_type);
            assert_eq!((shown.to_json().as_str(), shown.plain_text().as_str()), (json, text));
        }
        let fields = Shown::fields([("a b", Shown::count(2)), ("c", Shown::List(vec![]))]);
        assert_eq!(fields.to_json(), r#"{"a b":2,"c":[]}"#);
    }
}
