//! Exact arithmetic on scaled integers: computed in 128 bits, then checked to fit.

use crate::ground::decimal::{POWERS, divide_round};

/// 10^n for n in 0..=38.
const WIDE: [i128; 39] = {
    let mut powers = [1i128; 39];
    let mut i = 1;
    while i < 39 {
        powers[i] = powers[i - 1] * 10;
        i += 1;
    }
    powers
};

/// The slot of a value of at most `precision` digits.
#[inline(always)]
pub(crate) fn fit(value: i128, precision: u8) -> Option<u64> {
    let bound = i128::from(POWERS[precision as usize]);
    (-bound < value && value < bound).then_some(value as i64 as u64)
}

/// `a * left + b * right`, where the factors bring both to the result's scale (and a negative one
/// subtracts).
#[inline(always)]
pub(crate) fn add(a: i64, left: i64, b: i64, right: i64, precision: u8) -> Option<u64> {
    fit(i128::from(a) * i128::from(left) + i128::from(b) * i128::from(right), precision)
}

/// `a * b`, with `drop` digits rounded away.
#[inline(always)]
pub(crate) fn multiply(a: i64, b: i64, drop: u8, precision: u8) -> Option<u64> {
    let product = i128::from(a) * i128::from(b);
    if drop == 0 {
        fit(product, precision)
    } else {
        fit(divide_round(product, WIDE[drop as usize]), precision)
    }
}

/// `a * 10^up / b`, rounded half away from zero. `None` for `b = 0`.
#[inline(always)]
pub(crate) fn divide(a: i64, b: i64, up: u8, precision: u8) -> Option<u64> {
    if b == 0 {
        return None;
    }
    let (a, b) = (i128::from(a), i128::from(b));
    match a.checked_mul(WIDE[up as usize]) {
        Some(scaled) => fit(divide_round(scaled, b), precision),
        None => divide_long(a, b, up, precision),
    }
}

/// Division digit by digit, for dividends beyond 128 bits.
fn divide_long(a: i128, b: i128, up: u8, precision: u8) -> Option<u64> {
    let (divisor, mut rest) = (b.unsigned_abs(), a.unsigned_abs());
    let mut quotient = rest / divisor;
    rest %= divisor;
    for _ in 0..up {
        rest *= 10;
        quotient = quotient.checked_mul(10)?.checked_add(rest / divisor)?;
        rest %= divisor;
    }
    quotient = quotient.checked_add(u128::from(rest * 2 >= divisor))?;
    let quotient = i128::try_from(quotient).ok()?;
    fit(if (a < 0) == (b < 0) { quotient } else { -quotient }, precision)
}

/// `(a * left) % (b * right)`, with the sign of `a`. `None` for `b = 0`.
#[inline(always)]
pub(crate) fn remainder(a: i64, left: i64, b: i64, right: i64, precision: u8) -> Option<u64> {
    let divisor = i128::from(b) * i128::from(right);
    (i128::from(a) * i128::from(left)).checked_rem(divisor).and_then(|rest| fit(rest, precision))
}

/// A value at another scale, rounded half away from zero.
#[inline(always)]
pub(crate) fn rescale(value: i64, from: u8, to: u8, precision: u8) -> Option<u64> {
    let value = i128::from(value);
    if to >= from {
        fit(value * WIDE[(to - from) as usize], precision)
    } else {
        fit(divide_round(value, WIDE[(from - to) as usize]), precision)
    }
}

#[inline(always)]
pub(crate) fn floor(value: i64, drop: u8) -> u64 {
    value.div_euclid(POWERS[drop as usize]) as u64
}

#[inline(always)]
pub(crate) fn ceil(value: i64, drop: u8) -> u64 {
    // Not the negation of a floor: -MIN does not exist.
    let power = POWERS[drop as usize];
    (value.div_euclid(power) + i64::from(value.rem_euclid(power) != 0)) as u64
}

#[inline(always)]
pub(crate) fn truncate(value: i64, drop: u8) -> u64 {
    (value / POWERS[drop as usize]) as u64
}

/// Rounds `drop` digits away and appends `up` zeros; a BIGINT if `precision` is 0.
#[inline(always)]
pub(crate) fn round(value: i64, drop: u8, up: u8, precision: u8) -> Option<u64> {
    let rounded = divide_round(i128::from(value), WIDE[drop as usize]) * WIDE[up as usize];
    if precision == 0 {
        i64::try_from(rounded).ok().map(|v| v as u64)
    } else {
        fit(rounded, precision)
    }
}

/// A number as written: sign, digits and the power of ten they are to be multiplied by.
pub(crate) struct Written {
    pub digits: i128,
    pub exponent: i32,
}

impl Written {
    /// Reads `12`, `-1.50`, `.5`, `1e3`, with blanks around. At most 36 digits count; more decimal
    /// places are cut off, more digits before the point are refused.
    pub fn read(text: &[u8]) -> Option<Written> {
        let text = text.trim_ascii();
        let (negative, text) = match text.split_first() {
            Some((b'-', rest)) => (true, rest),
            Some((b'+', rest)) => (false, rest),
            _ => (false, text),
        };
        let (mut digits, mut exponent, mut seen, mut point) = (0i128, 0i32, false, false);
        let mut at = 0;
        while at < text.len() {
            match text[at] {
                byte @ b'0'..=b'9' => {
                    seen = true;
                    if digits < WIDE[36] {
                        digits = digits * 10 + i128::from(byte - b'0');
                        exponent -= i32::from(point);
                    } else if !point {
                        return None;
                    }
                }
                b'.' if !point => point = true,
                b'e' | b'E' if seen => {
                    let power = std::str::from_utf8(&text[at + 1..]).ok()?;
                    exponent = exponent.checked_add(power.parse::<i32>().ok()?)?;
                    break;
                }
                _ => return None,
            }
            at += 1;
        }
        let digits = if negative { -digits } else { digits };
        seen.then_some(Written { digits, exponent })
    }

    /// `digits * 10^exponent` as a DECIMAL, rounded half away from zero.
    pub fn scaled(&self, precision: u8, scale: u8) -> Option<u64> {
        let up = i64::from(self.exponent) + i64::from(scale);
        match usize::try_from(up) {
            _ if self.digits == 0 => Some(0),
            Ok(up) => fit(self.digits.checked_mul(*WIDE.get(up)?)?, precision),
            Err(_) => match WIDE.get(up.unsigned_abs() as usize) {
                Some(power) => fit(divide_round(self.digits, *power), precision),
                None => Some(0),
            },
        }
    }
}

/// A text as a DECIMAL, rounded half away from zero.
pub(crate) fn parse(text: &[u8], precision: u8, scale: u8) -> Option<u64> {
    Written::read(text)?.scaled(precision, scale)
}

/// A text as a BIGINT; decimal places are cut off, as Flink does.
pub(crate) fn parse_int(text: &[u8]) -> Option<u64> {
    let text = text.trim_ascii();
    if text.iter().any(|byte| matches!(byte, b'e' | b'E')) {
        return None;
    }
    let written = Written::read(text)?;
    let power = WIDE.get(written.exponent.unsigned_abs() as usize)?;
    i64::try_from(written.digits / power).ok().map(|v| v as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn division_is_exact_beyond_128_bits() {
        // 9*10^17 / 3 with 24 places more than fit at once: both ways must agree.
        for (a, b, up) in [(7, 3, 6), (-7, 3, 6), (2, -3, 18), (1, 7, 17), (-5, 2, 0)] {
            let short = divide(a, b, up, 18);
            assert_eq!(divide_long(i128::from(a), i128::from(b), up, 18), short);
        }
        assert_eq!(divide(999_999_999_999_999_999, 999_999_999_999_999_999, 24, 18), None);
        assert_eq!(
            divide(999_999_999_999_999_999, 999_999_999_999_999_999, 17, 18),
            Some(100_000_000_000_000_000)
        );
    }

    #[test]
    fn texts_are_read_as_numbers() {
        assert_eq!(parse(b" 12.345 ", 18, 2), Some(1235));
        assert_eq!(parse(b"-.005", 18, 2), Some((-1i64) as u64));
        assert_eq!(parse(b"1e3", 18, 2), Some(100_000));
        assert_eq!(parse(b"1e-30", 18, 2), Some(0));
        assert_eq!(parse(b"1e99999999999", 18, 2), None);
        assert_eq!(parse(b"1000", 3, 0), None);
        for wrong in [&b""[..], b".", b"-", b"1.2.3", b"1 2", b"e5", b"0x10"] {
            assert_eq!(parse(wrong, 18, 2), None);
            assert_eq!(parse_int(wrong), None);
        }
        assert_eq!(parse_int(b"-12.99"), Some((-12i64) as u64));
        assert_eq!(parse_int(b"9223372036854775808"), None);
    }
}
