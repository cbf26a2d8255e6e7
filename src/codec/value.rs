//! Texts of single values to slots: the leaves that JSON and CSV share.
//!
//! The quick leaves read a value from a [`Window`] without a branch where they can, and say `ok`
//! only when the text is certainly the value; whoever calls checks what follows it. The thorough
//! ones take a whole token and say what is wrong with it.
//!
//! 1. A quick leaf that says `ok` gives what the thorough one gives.

use crate::ground::decimal;
use crate::ground::scan::{Window, word};
use crate::ground::schema::DataType;
use crate::ground::wide::{Level, power};

/// What a quick leaf read: the slot, how many bytes of text, and whether it is sure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Leaf {
    pub slot: u64,
    pub len: usize,
    pub ok: bool,
}

/// What is wrong with a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Not a number at all.
    Syntax,
    /// Too large for the type.
    Range,
    /// A fraction where there can be none.
    Fraction,
    /// More fraction digits, not zeros, than the scale has.
    Scale,
    /// More digits than the precision.
    Precision,
    /// Not an RFC 3339 time.
    Time,
    /// Not base64.
    Base64,
    /// Neither `true` nor `false`.
    Boolean,
}

impl Fault {
    /// What to tell about a value of this type.
    pub(super) fn describe(self, data_type: &DataType) -> String {
        match self {
            Fault::Syntax => format!("expected {data_type}, found what is no number"),
            Fault::Range => format!("the number is out of the range of {data_type}"),
            Fault::Fraction => format!("expected {data_type}, found a fraction"),
            Fault::Scale => format!("the number has more fraction digits than {data_type}"),
            Fault::Precision => format!("the number has more digits than {data_type}"),
            Fault::Time => {
                format!("expected {data_type} as milliseconds or RFC 3339, found another text")
            }
            Fault::Base64 => format!("expected {data_type} as base64, found another text"),
            Fault::Boolean => format!("expected {data_type}, found another text"),
        }
    }
}

/// 10^0 to 10^22, all exact.
const POWERS_F64: [f64; 32] = {
    let mut powers = [1f64; 32];
    let mut i = 1;
    while i < 23 {
        powers[i] = powers[i - 1] * 10.0;
        i += 1;
    }
    powers
};

#[inline(always)]
fn signed(value: u64, negative: usize) -> u64 {
    (value ^ (negative as u64).wrapping_neg()).wrapping_add(negative as u64)
}

/// A BIGINT or TIMESTAMP without fraction or exponent.
#[inline(always)]
pub(super) fn integer<const SIGNED: bool, L: Level>(level: L, window: &Window) -> Leaf {
    let number = level.integer::<SIGNED>(window);
    Leaf {
        slot: signed(number.digits, number.negative),
        len: number.len,
        ok: number.ok & (number.digits <= i64::MAX as u64),
    }
}

/// A DECIMAL without exponent.
#[inline(always)]
pub(super) fn decimal<const SIGNED: bool, L: Level>(
    level: L,
    window: &Window,
    precision: u8,
    scale: u8,
) -> Leaf {
    let number = level.scaled_number::<SIGNED>(window, usize::from(scale));
    Leaf {
        slot: signed(number.digits, number.negative),
        len: number.len,
        ok: number.ok & (number.digits < power(usize::from(precision))),
    }
}

/// A DOUBLE without exponent whose digits are at most 2^53: exact by one division (W. Clinger).
#[inline(always)]
pub(super) fn double<const SIGNED: bool, L: Level>(level: L, window: &Window) -> Leaf {
    let number = level.number::<SIGNED>(window);
    let value = number.digits as i64 as f64 / POWERS_F64[number.part % 32];
    Leaf {
        slot: value.to_bits() | (number.negative as u64) << 63,
        len: number.len,
        ok: number.ok & (number.digits <= 1 << 53),
    }
}

/// `true` or `false`.
#[inline(always)]
pub(super) fn boolean(window: &Window) -> Leaf {
    let text = word(window, 0);
    let yes = text & 0xFFFF_FFFF == u64::from(u32::from_le_bytes(*b"true"));
    let no = text & 0xFF_FFFF_FFFF == u64::from_le_bytes(*b"false\0\0\0");
    Leaf { slot: u64::from(yes), len: 4 + usize::from(no), ok: yes | no }
}

/// The length of the number (JSON's grammar) that `text` starts with.
pub(super) fn number_len(text: &[u8]) -> Option<usize> {
    let digits_at = |at: usize| {
        let rest = text.get(at..).unwrap_or(&[]);
        rest.iter().take_while(|byte| byte.is_ascii_digit()).count()
    };
    let mut at = usize::from(text.first() == Some(&b'-'));
    let whole = digits_at(at);
    if whole == 0 || whole > 1 && text[at] == b'0' {
        return None;
    }
    at += whole;
    if text.get(at) == Some(&b'.') {
        let part = digits_at(at + 1);
        if part == 0 {
            return None;
        }
        at += 1 + part;
    }
    if matches!(text.get(at), Some(b'e' | b'E')) {
        at += 1 + usize::from(matches!(text.get(at + 1), Some(b'+' | b'-')));
        let exponent = digits_at(at);
        if exponent == 0 {
            return None;
        }
        at += exponent;
    }
    Some(at)
}

/// A number token (of JSON's grammar) times 10^`scale`, exactly. O(length).
fn scaled(token: &[u8], scale: u8, lost: Fault) -> Result<i64, Fault> {
    let negative = token.first() == Some(&b'-');
    let token = &token[usize::from(negative)..];
    let mantissa_end = token.iter().position(|byte| matches!(byte, b'e' | b'E'));
    let (mantissa, exponent) = token.split_at(mantissa_end.unwrap_or(token.len()));
    let exponent = exponent_of(exponent);
    let point = mantissa.iter().position(|&byte| byte == b'.').unwrap_or(mantissa.len());
    // The power of ten that the digit under way stands for, in units of the result.
    let mut place = point as i64 - 1 + exponent + i64::from(scale);
    let mut value: u64 = 0;
    for &byte in mantissa.iter().filter(|&&byte| byte != b'.') {
        let digit = u64::from(byte - b'0');
        if digit != 0 {
            if place < 0 {
                return Err(lost);
            }
            if place > 18 {
                return Err(Fault::Range);
            }
            // Ten digits of at most 19 places: below 10^19, which a u64 holds.
            value = value.checked_add(digit * power(place as usize)).ok_or(Fault::Range)?;
        }
        place -= 1;
    }
    let limit = i64::MAX as u64 + u64::from(negative);
    if value > limit {
        return Err(Fault::Range);
    }
    Ok(signed(value, usize::from(negative)) as i64)
}

/// The exponent of a number, clamped far beyond what any value survives.
fn exponent_of(text: &[u8]) -> i64 {
    let digits = text.get(1..).unwrap_or(&[]);
    let negative = digits.first() == Some(&b'-');
    let digits = digits.iter().filter(|byte| byte.is_ascii_digit());
    let value =
        digits.fold(0i64, |value, &byte| (value * 10 + i64::from(byte - b'0')).min(1 << 40));
    if negative { -value } else { value }
}

/// The slot of a number token (of JSON's grammar) as a value of a numeric type or TIMESTAMP.
///
/// # Errors
/// What is wrong with it for that type.
///
/// # Panics
/// If the type is none of these: callers have told it from the others.
pub(super) fn number(token: &[u8], data_type: &DataType) -> Result<u64, Fault> {
    match data_type {
        DataType::BigInt | DataType::Timestamp => Ok(scaled(token, 0, Fault::Fraction)? as u64),
        DataType::Decimal { precision, scale } => {
            let value = scaled(token, *scale, Fault::Scale).map_err(|fault| match fault {
                Fault::Range => Fault::Precision,
                other => other,
            })?;
            if !decimal::fits(value, *precision) {
                return Err(Fault::Precision);
            }
            Ok(value as u64)
        }
        DataType::Double => {
            let value: f64 = fast_float2::parse(token).map_err(|_| Fault::Syntax)?;
            if value.is_finite() { Ok(value.to_bits()) } else { Err(Fault::Range) }
        }
        _ => unreachable!("{data_type} is no number"),
    }
}

/// A TIMESTAMP's slot from an RFC 3339 text; what is finer than a millisecond is cut off.
///
/// # Errors
/// [`Fault::Time`].
pub(super) fn timestamp(text: &[u8]) -> Result<u64, Fault> {
    let text = std::str::from_utf8(text).map_err(|_| Fault::Time)?;
    let time: jiff::Timestamp = text.parse().map_err(|_| Fault::Time)?;
    let ms = time.as_nanosecond().div_euclid(1_000_000);
    i64::try_from(ms).map(|ms| ms as u64).map_err(|_| Fault::Range)
}

/// Decodes a base64 text (standard alphabet, padded: what Flink's JSON format writes for BYTES).
///
/// # Errors
/// [`Fault::Base64`].
pub(super) fn base64_decode(text: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
    use base64::Engine;
    out.clear();
    base64::engine::general_purpose::STANDARD.decode_vec(text, out).map_err(|_| Fault::Base64)
}
