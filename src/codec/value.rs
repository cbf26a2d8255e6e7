//! Texts of single values to slots: the leaves that JSON and CSV share.
//!
//! The quick leaves read a value from a [`Window`] without a branch where they can, and say `ok`
//! only when the text is certainly the value; whoever calls checks what follows it. The thorough
//! ones take a whole token and say what is wrong with it.
//!
//! 1. A quick leaf that says `ok` gives what the thorough one gives.

use crate::ground::decimal::{self, POWERS};
use crate::ground::scan::{Window, digits, word};
use crate::ground::schema::DataType;

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
        }
    }
}

const POWERS_U64: [u64; 32] = {
    let mut powers = [0u64; 32];
    let mut i = 0;
    while i < 19 {
        powers[i] = POWERS[i] as u64;
        i += 1;
    }
    powers[19] = 10_000_000_000_000_000_000;
    powers
};

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
fn power(exponent: usize) -> u64 {
    POWERS_U64[exponent % 32]
}

/// Digits of a window from `at` on: value, count. More than 19 are counted as 24 or so, and the
/// value is then meaningless.
#[inline(always)]
fn run(window: &Window, at: usize) -> (u64, usize) {
    let (value, count) = digits(word(window, at));
    if count < 8 { (value, count) } else { run_on(window, at, value) }
}

#[inline(always)]
fn run_on(window: &Window, at: usize, first: u64) -> (u64, usize) {
    let (second, count) = digits(word(window, at + 8));
    let value = first * power(count) + second;
    if count < 8 {
        return (value, 8 + count);
    }
    let (third, count) = digits(word(window, at + 16));
    if count > 3 {
        return (0, 24);
    }
    (value.wrapping_mul(power(count)).wrapping_add(third), 16 + count)
}

#[inline(always)]
fn signed(value: u64, negative: usize) -> u64 {
    (value ^ (negative as u64).wrapping_neg()).wrapping_add(negative as u64)
}

/// Whether digits at `at` are a number's whole part: some, and no zero ahead of others.
#[inline(always)]
fn is_whole(window: &Window, at: usize, count: usize) -> bool {
    (count == 1) | ((count > 1) & (window[at] != b'0'))
}

/// A BIGINT or TIMESTAMP of up to 19 digits, without fraction or exponent.
#[inline(always)]
pub(super) fn integer(window: &Window) -> Leaf {
    let negative = usize::from(window[0] == b'-');
    let (value, count) = run(window, negative);
    let fits = (count < 19) | ((count == 19) & (value <= i64::MAX as u64));
    Leaf {
        slot: signed(value, negative),
        len: negative + count,
        ok: is_whole(window, negative, count) & fits,
    }
}

/// A DECIMAL with up to 7 fraction digits, without exponent.
#[inline(always)]
pub(super) fn decimal(window: &Window, precision: u8, scale: u8) -> Leaf {
    let negative = usize::from(window[0] == b'-');
    let (whole, count) = run(window, negative);
    let point = (negative + count) % 32;
    let has_point = usize::from(window[point] == b'.');
    let (part, part_count) = digits(word(window, point + 1));
    let part_count = part_count * has_point;
    let part = part * has_point as u64;
    let fits = (part_count < 8)
        & (part_count <= usize::from(scale))
        & (part_count >= has_point)
        & (count <= 18)
        & (whole < power(usize::from(precision - scale)));
    let value = whole
        .wrapping_mul(power(usize::from(scale)))
        .wrapping_add(part.wrapping_mul(power(usize::from(scale).wrapping_sub(part_count))));
    Leaf {
        slot: signed(value, negative),
        len: point + has_point + part_count,
        ok: is_whole(window, negative, count) & fits,
    }
}

/// A DOUBLE without exponent whose digits are at most 2^53: exact by one division (W. Clinger).
#[inline(always)]
pub(super) fn double(window: &Window) -> Leaf {
    let negative = usize::from(window[0] == b'-');
    let (whole, count) = run(window, negative);
    let point = (negative + count) % 32;
    let has_point = usize::from(window[point] == b'.');
    let (part, part_count) = run(window, point + 1);
    let part_count = part_count * has_point;
    let part = part * has_point as u64;
    let mantissa = whole.wrapping_mul(power(part_count)).wrapping_add(part);
    let fits = (count + part_count <= 19) & (part_count >= has_point) & (mantissa <= 1 << 53);
    let value = mantissa as f64 / POWERS_F64[part_count % 32];
    Leaf {
        slot: value.to_bits() | (negative as u64) << 63,
        len: point + has_point + part_count,
        ok: is_whole(window, negative, count) & fits,
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

/// Appends `bytes` as base64.
pub(super) fn base64_encode(bytes: &[u8], out: &mut Vec<u8>) {
    use base64::Engine;
    let engine = base64::engine::general_purpose::STANDARD;
    let at = out.len();
    out.resize(at + bytes.len().div_ceil(3) * 4, b'=');
    let written = engine.encode_slice(bytes, &mut out[at..]);
    out.truncate(at + written.expect("room was made for four bytes of every three"));
}

/// Appends a time as RFC 3339 in UTC, with milliseconds: `2023-11-14T22:13:20.000Z`. A time beyond
/// the year 9999 (or before 0000) has no such text and is written as its milliseconds.
pub(super) fn format_timestamp(ms: i64, out: &mut Vec<u8>) {
    const DAY: i64 = 86_400_000;
    let (days, of_day) = (ms.div_euclid(DAY), ms.rem_euclid(DAY) as u64);
    if !(-719_528..2_932_897).contains(&days) {
        out.extend_from_slice(itoa::Buffer::new().format(ms).as_bytes());
        return;
    }
    let (year, month, day) = civil(days);
    let mut text = *b"0000-00-00T00:00:00.000Z";
    let mut put = |at: usize, width: usize, mut value: u64| {
        for place in text[at..at + width].iter_mut().rev() {
            *place = b'0' + (value % 10) as u8;
            value /= 10;
        }
    };
    put(0, 4, year);
    put(5, 2, month);
    put(8, 2, day);
    put(11, 2, of_day / 3_600_000);
    put(14, 2, of_day / 60_000 % 60);
    put(17, 2, of_day / 1000 % 60);
    put(20, 3, of_day % 1000);
    out.extend_from_slice(&text);
}

/// Year, month and day of a day counted from 1970-01-01, from the year 0 on (H. Hinnant,
/// "chrono-compatible low-level date algorithms").
fn civil(days: i64) -> (u64, u64, u64) {
    let days = (days + 719_468 + 146_097) as u64;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = (year_of_era + 400 * era) as i64 - 400 + i64::from(month <= 2);
    (year as u64, month, day)
}
