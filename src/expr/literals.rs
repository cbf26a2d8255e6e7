//! Literals: what their text says and which type they have.

use sqlparser::ast::{self as sql, Expr};

use super::calendar::Unit;
use super::lower::{Lower, Lowered};
use super::node::{Node, Span};
use super::types;
use crate::ground::decimal::PRECISION_MAX;
use crate::ground::schema::DataType;

impl Lower<'_, '_> {
    pub(super) fn value(&mut self, expr: &Expr, value: &sql::Value) -> Lowered {
        match value {
            sql::Value::Number(text, _) => self.number(expr, text),
            sql::Value::SingleQuotedString(text) => Ok(Node::text(text)),
            sql::Value::Boolean(value) => Ok(Node::boolean(*value)),
            sql::Value::Null => Ok(Node::null(None)),
            sql::Value::HexStringLiteral(hex) => {
                let digit = |at: usize| {
                    hex.get(at..at + 2).and_then(|two| u8::from_str_radix(two, 16).ok())
                };
                let bytes: Option<Vec<u8>> = (0..hex.len()).step_by(2).map(digit).collect();
                match bytes {
                    Some(bytes) => Ok(Node::bytes(&bytes)),
                    None => Err(self.error(expr, "a hex literal has two digits a byte")),
                }
            }
            _ => Err(self.error(expr, format!("the literal {value} is not supported"))),
        }
    }

    /// `12` is BIGINT, `0.908` DECIMAL(3,3), `1e3` DOUBLE.
    pub(super) fn number(&mut self, expr: &Expr, text: &str) -> Lowered {
        if text.contains(['e', 'E']) {
            return match super::doubles::parse(text.as_bytes()) {
                Some(word) => Ok(Node::word(word, DataType::Double)),
                None => Err(self.error(expr, format!("{text} does not fit a DOUBLE"))),
            };
        }
        let digits = text.trim_start_matches('-');
        let Some((whole, places)) = digits.split_once('.') else {
            return match text.parse() {
                Ok(value) => Ok(Node::int(value)),
                Err(_) => Err(self
                    .error(expr, format!("{text} does not fit a BIGINT"))
                    .hint("write it as a DOUBLE: 1e20")),
            };
        };
        let whole = whole.trim_start_matches('0').len();
        let (precision, scale) = (whole + places.len(), places.len());
        if precision > usize::from(PRECISION_MAX) {
            let message =
                format!("{text} has {precision} digits; a DECIMAL has at most {PRECISION_MAX}");
            return Err(self.error(expr, message).hint("write it as a DOUBLE: 1.5e0"));
        }
        let data_type = types::decimal(precision as u32, scale as u32);
        let word = super::decimals::parse(text.as_bytes(), PRECISION_MAX, scale as u8);
        let word = word.ok_or_else(|| self.error(expr, format!("{text} is not a number")))?;
        Ok(Node::word(word, data_type))
    }

    pub(super) fn typed_string(&mut self, expr: &Expr, typed: &sql::TypedString) -> Lowered {
        let text = match &typed.value.value {
            sql::Value::SingleQuotedString(text) => text,
            _ => return Err(self.error(expr, format!("`{expr}` is not supported"))),
        };
        let data_type = match typed.data_type {
            sql::DataType::Date => Some(DataType::Timestamp),
            _ => types::named(&typed.data_type),
        };
        let Some(data_type) = data_type else {
            return Err(self.unknown_type(expr, &typed.data_type));
        };
        match Node::text(text).cast(&data_type) {
            Some(node) if !node.is_null() => Ok(node),
            _ => {
                let error = self.error(expr, format!("'{text}' is not a {data_type}"));
                Err(match data_type {
                    DataType::Timestamp => error.hint("write it as '2024-05-01 12:30:00.000'"),
                    _ => error,
                })
            }
        }
    }

    pub(super) fn interval(&mut self, expr: &Expr, interval: &sql::Interval) -> Lowered {
        let wrong = |lower: &Self| {
            lower
                .error(expr, format!("`{expr}` is not an interval that is known"))
                .hint("write it as INTERVAL '5' MINUTE")
        };
        let text = match interval.value.as_ref() {
            Expr::Value(value) => match &value.value {
                sql::Value::SingleQuotedString(text) | sql::Value::Number(text, _) => text.trim(),
                _ => return Err(wrong(self)),
            },
            _ => return Err(wrong(self)),
        };
        let (number, unit) = match (&interval.leading_field, text.split_once(' ')) {
            _ if interval.last_field.is_some() => return Err(wrong(self)),
            (Some(field), _) => (text, field.to_string()),
            (None, Some((number, unit))) => (number, unit.trim().to_string()),
            (None, None) => return Err(wrong(self)),
        };
        let unit = Unit::named(&unit).ok_or_else(|| wrong(self))?;
        let times = |factor: i64, span: Span| {
            let number: i64 = number.parse().ok()?;
            Some(Node::int(number.checked_mul(factor)?).spanning(span))
        };
        let node = match (unit, unit.millis(), unit.months()) {
            (Unit::Second, ..) => super::decimals::parse(number.as_bytes(), PRECISION_MAX, 3)
                .map(|ms| Node::int(ms as i64).spanning(Span::Millis)),
            (_, Some(millis), _) => times(millis, Span::Millis),
            (_, _, Some(months)) => times(months, Span::Months),
            _ => None,
        };
        node.ok_or_else(|| wrong(self))
    }
}
