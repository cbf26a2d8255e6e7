//! Doubles: rounding and conversion by their shortest decimal form, as Java (and so Flink) does.

use super::decimals::Written;
use crate::ground::decimal::POWERS;

/// Integers below this are exact as a double.
const EXACT: u64 = 1 << 53;

/// The slot of a number, `None` if it is infinite or not a number.
#[inline(always)]
pub(crate) fn finite(value: f64) -> Option<u64> {
    value.is_finite().then_some(value.to_bits())
}

#[inline(always)]
pub(crate) fn sign(value: f64) -> f64 {
    if value > 0.0 {
        1.0
    } else if value < 0.0 {
        -1.0
    } else {
        value
    }
}

/// A DECIMAL as the nearest double.
#[inline(always)]
pub(crate) fn of_decimal(value: i64, scale: u8) -> u64 {
    if value.unsigned_abs() <= EXACT {
        // Both are exact, so the quotient is the nearest double.
        (value as f64 / POWERS[scale as usize] as f64).to_bits()
    } else {
        nearest(i128::from(value), -i32::from(scale)).to_bits()
    }
}

/// `digits * 10^exponent` as the nearest double.
#[cold]
fn nearest(digits: i128, exponent: i32) -> f64 {
    let text = format!("{digits}e{exponent}");
    fast_float2::parse(text).expect("digits, `e` and a number are a double")
}

#[inline(always)]
pub(crate) fn to_int(value: f64) -> Option<u64> {
    // 2^63 is a double; the largest below it is the largest that fits.
    let bound = 9_223_372_036_854_775_808.0;
    let whole = value.trunc();
    (-bound <= whole && whole < bound).then_some(whole as i64 as u64)
}

/// The shortest decimal that reads back as `value`, which is finite.
fn shortest(value: f64) -> Written {
    let mut buffer = ryu::Buffer::new();
    Written::read(buffer.format_finite(value).as_bytes()).expect("ryu writes a number")
}

pub(crate) fn to_decimal(value: f64, precision: u8, scale: u8) -> Option<u64> {
    finite(value)?;
    shortest(value).scaled(precision, scale)
}

/// Rounds half away from zero to `digits` decimal places (before the point if negative), by the
/// shortest decimal form: 2.675 becomes 2.68 though the double lies below.
pub(crate) fn round(value: f64, digits: i32) -> Option<u64> {
    finite(value)?;
    let written = shortest(value);
    let drop = i64::from(-digits) - i64::from(written.exponent);
    if drop <= 0 {
        return finite(value);
    }
    if drop > 20 {
        return finite(0.0 * value);
    }
    let power = 10i128.pow(drop as u32);
    let rounded = crate::ground::decimal::divide_round(written.digits, power);
    finite(nearest(rounded, -digits))
}

/// Reads a text as a double; `NaN` and infinities are no values.
pub(crate) fn parse(text: &[u8]) -> Option<u64> {
    fast_float2::parse::<f64, _>(text.trim_ascii()).ok().and_then(finite)
}

/// Writes a double as Java's `Double.toString`: `1.0`, `0.001`, `1.0E7`, `1.25E-4`.
pub(crate) fn format(value: f64, out: &mut Vec<u8>) {
    if value.is_nan() {
        return out.extend_from_slice(b"NaN");
    }
    if value.is_sign_negative() {
        out.push(b'-');
    }
    let value = value.abs();
    if value.is_infinite() {
        return out.extend_from_slice(b"Infinity");
    }
    let mut written = shortest(value);
    if written.digits == 0 {
        return out.extend_from_slice(b"0.0");
    }
    while written.digits % 10 == 0 {
        written.digits /= 10;
        written.exponent += 1;
    }
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(written.digits as u64).as_bytes();
    // The value is 0.DIGITS * 10^point.
    let point = digits.len() as i32 + written.exponent;
    if (1e-3..1e7).contains(&value) {
        let whole = point.clamp(0, digits.len() as i32) as usize;
        out.extend_from_slice(if whole == 0 { b"0" } else { &digits[..whole] });
        out.resize(out.len() + (point - digits.len() as i32).max(0) as usize, b'0');
        out.push(b'.');
        out.resize(out.len() + (-point).max(0) as usize, b'0');
        let rest = &digits[whole..];
        out.extend_from_slice(if rest.is_empty() { b"0" } else { rest });
    } else {
        out.push(digits[0]);
        out.push(b'.');
        let rest = &digits[1..];
        out.extend_from_slice(if rest.is_empty() { b"0" } else { rest });
        out.push(b'E');
        out.extend_from_slice(itoa::Buffer::new().format(point - 1).as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_print_as_java_prints_them() {
        for (value, text) in [
            (1.0, "1.0"),
            (-0.5, "-0.5"),
            (100.0, "100.0"),
            (0.001, "0.001"),
            (0.0001, "1.0E-4"),
            (1e7, "1.0E7"),
            (1234567.25, "1234567.25"),
            (1.5e300, "1.5E300"),
            (0.0, "0.0"),
            (-0.0, "-0.0"),
        ] {
            let mut out = Vec::new();
            format(value, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }

    #[test]
    fn doubles_round_by_their_shortest_form() {
        let rounded = |value, digits| round(value, digits).map(f64::from_bits);
        assert_eq!(rounded(2.675, 2), Some(2.68));
        assert_eq!(rounded(-2.5, 0), Some(-3.0));
        assert_eq!(rounded(1250.0, -2), Some(1300.0));
        assert_eq!(rounded(0.1, 5), Some(0.1));
        assert_eq!(rounded(1e-30, 2), Some(0.0));
        assert_eq!(rounded(1e300, 2), Some(1e300));
        assert_eq!(rounded(f64::NAN, 2), None);
        assert_eq!(to_decimal(2.675, 18, 2), Some(268));
    }
}
