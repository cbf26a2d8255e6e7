//! Exact decimals: an `i64` scaled by a power of ten, at most 18 digits.

/// Most digits of a DECIMAL.
pub const PRECISION_MAX: u8 = 18;

/// 10^n for n in 0..=18.
pub const POWERS: [i64; 19] = {
    let mut powers = [1i64; 19];
    let mut i = 1;
    while i < 19 {
        powers[i] = powers[i - 1] * 10;
        i += 1;
    }
    powers
};

/// A value at another scale; digits that fall away are rounded half away from zero, as SQL does.
/// `None` if it no longer fits an `i64`.
#[inline(always)]
pub fn rescale(value: i64, from: u8, to: u8) -> Option<i64> {
    if to >= from {
        value.checked_mul(POWERS[(to - from) as usize])
    } else {
        Some(divide_round(i128::from(value), i128::from(POWERS[(from - to) as usize])) as i64)
    }
}

/// `a / b`, rounded half away from zero.
///
/// # Panics
/// If `b` is 0.
#[inline(always)]
pub fn divide_round(a: i128, b: i128) -> i128 {
    let (quotient, rest) = (a / b, a % b);
    if rest.unsigned_abs() * 2 >= b.unsigned_abs() {
        quotient + if (a < 0) == (b < 0) { 1 } else { -1 }
    } else {
        quotient
    }
}

/// Whether a scaled value has at most `precision` digits.
#[inline(always)]
pub fn fits(value: i64, precision: u8) -> bool {
    value.unsigned_abs() < POWERS[precision as usize] as u64
}

/// Writes a scaled value with its full scale, as JSON and CSV show it: `-0.05`, `12.50`, `7`.
pub fn format(value: i64, scale: u8, out: &mut Vec<u8>) {
    let mut buffer = itoa::Buffer::new();
    if scale == 0 {
        out.extend_from_slice(buffer.format(value).as_bytes());
        return;
    }
    let power = POWERS[scale as usize] as u64;
    let (whole, part) = (value.unsigned_abs() / power, value.unsigned_abs() % power);
    if value < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(buffer.format(whole).as_bytes());
    out.push(b'.');
    let digits = buffer.format(part + power).as_bytes();
    out.extend_from_slice(&digits[1..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_round_half_away_from_zero() {
        assert_eq!(rescale(125, 2, 1), Some(13));
        assert_eq!(rescale(-125, 2, 1), Some(-13));
        assert_eq!(rescale(124, 2, 1), Some(12));
        assert_eq!(rescale(5, 0, 2), Some(500));
        assert_eq!(rescale(i64::MAX, 0, 1), None);
    }

    #[test]
    fn decimals_show_their_full_scale() {
        let shown = |value, scale| {
            let mut out = Vec::new();
            format(value, scale, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(shown(-5, 2), "-0.05");
        assert_eq!(shown(1250, 2), "12.50");
        assert_eq!(shown(7, 0), "7");
        assert_eq!(shown(i64::MIN, 18), "-9.223372036854775808");
    }
}
