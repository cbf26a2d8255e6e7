//! Slots to texts of single values: the leaves that JSON and CSV share.

use crate::ground::decimal;
use crate::ground::pen::Pen;

/// Room that a pen must have for a number.
pub(super) const NUMBER_ROOM: usize = 32;

const ASCII_ZEROS: u64 = 0x3030_3030_3030_3030;
const EIGHT: u64 = 100_000_000;

/// The eight digits of a number below 10^8, the first in the low byte: halves, quarters, eighths.
#[inline(always)]
fn digits(value: u64) -> u64 {
    debug_assert!(value < EIGHT);
    let halves = (value / 10_000) | (value % 10_000) << 32;
    let hundreds = (halves.wrapping_mul(10_486) >> 20) & 0x0000_007F_0000_007F;
    let quarters = hundreds | (halves - 100 * hundreds) << 16;
    let tens = (quarters.wrapping_mul(103) >> 10) & 0x000F_000F_000F_000F;
    tens | (quarters - 10 * tens) << 8
}

/// Writes an integer.
#[inline(always)]
pub(super) fn integer(value: i64, pen: &mut Pen<'_>) {
    let mut rest = value.unsigned_abs();
    pen.word(u64::from(b'-'), usize::from(value < 0));
    let mut low = [0; 2];
    let mut lows = 0;
    while rest >= EIGHT {
        low[lows] = rest % EIGHT;
        rest /= EIGHT;
        lows += 1;
    }
    let first = digits(rest);
    let zeros = (first | 1 << 63).trailing_zeros() / 8;
    pen.word((first | ASCII_ZEROS) >> (8 * zeros), 8 - zeros as usize);
    while lows > 0 {
        lows -= 1;
        pen.word(digits(low[lows]) | ASCII_ZEROS, 8);
    }
}

/// Writes a scaled integer with its full scale.
#[inline(always)]
pub(super) fn decimal<'a>(value: i64, scale: u8, mut pen: Pen<'a>) -> Pen<'a> {
    let rest = value.unsigned_abs();
    if rest >= EIGHT || scale == 0 || scale > 7 {
        return pen.writing(|out| decimal::format(value, scale, out));
    }
    pen.word(u64::from(b'-'), usize::from(value < 0));
    let scale = u32::from(scale);
    let digits = digits(rest);
    // At least one digit before the point.
    let zeros = ((digits | 1 << 63).trailing_zeros() / 8).min(7 - scale);
    let text = (digits | ASCII_ZEROS) >> (8 * zeros);
    // At most seven digits before the point, so that it fits the word.
    let whole = 8 - zeros - scale;
    let part = text >> (8 * whole);
    let whole_text = text & !(!0u64 << (8 * whole));
    pen.word(whole_text | u64::from(b'.') << (8 * whole), whole as usize + 1);
    pen.word(part, scale as usize);
    pen
}

/// Writes the shortest text that reads back as the same number, with a point or an exponent, or
/// `other` if it is not finite.
#[inline(never)]
pub(super) fn double(value: f64, other: &str, out: &mut Vec<u8>) {
    if value.is_finite() {
        out.extend_from_slice(ryu::Buffer::new().format_finite(value).as_bytes());
    } else {
        out.extend_from_slice(other.as_bytes());
    }
}

/// Appends `bytes` as base64.
pub(super) fn base64(bytes: &[u8], out: &mut Vec<u8>) {
    use base64::Engine;
    let engine = base64::engine::general_purpose::STANDARD;
    let at = out.len();
    out.resize(at + bytes.len().div_ceil(3) * 4, b'=');
    let written = engine.encode_slice(bytes, &mut out[at..]);
    out.truncate(at + written.expect("room was made for four bytes of every three"));
}

/// Whether a time has an RFC 3339 text: from the year 0 to 9999.
pub(super) fn has_text(ms: i64) -> bool {
    (-719_528..2_932_897).contains(&ms.div_euclid(DAY_MS))
}

const DAY_MS: i64 = 86_400_000;

/// Appends a time that [`has_text`] as RFC 3339 in UTC: `2023-11-14T22:13:20.000Z`.
pub(super) fn timestamp(ms: i64, out: &mut Vec<u8>) {
    let (days, of_day) = (ms.div_euclid(DAY_MS), ms.rem_euclid(DAY_MS) as u64);
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(write: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = b"x".to_vec();
        write(&mut out);
        String::from_utf8(out).expect("texts are UTF-8")[1..].to_string()
    }

    proptest! {
        #[test]
        fn integers_are_what_display_writes(value in any::<i64>(), shift in 0..64u32) {
            for value in [value >> shift, -(value >> shift), i64::MIN, i64::MAX, 0, 99_999_999] {
                let shown = shown(|out| {
                    let mut pen = Pen::new(out).with_room(NUMBER_ROOM);
                    integer(value, &mut pen);
                    pen.finish();
                });
                prop_assert_eq!(shown, value.to_string());
            }
        }

        #[test]
        fn decimals_are_what_the_plain_twin_writes(
            value in any::<i64>(), shift in 0..64u32, scale in 0..=18u8
        ) {
            for value in [value >> shift, 0, 1, -1, 99_999_999] {
                let plain = shown(|out| decimal::format(value, scale, out));
                let quick = shown(|out| {
                    decimal(value, scale, Pen::new(out).with_room(NUMBER_ROOM)).finish();
                });
                prop_assert_eq!(quick, plain);
            }
        }

        #[test]
        fn times_are_what_jiff_writes(ms in -62_167_219_200_000i64..253_402_207_200_000) {
            let expected = jiff::Timestamp::from_millisecond(ms).unwrap();
            prop_assert_eq!(shown(|out| timestamp(ms, out)), format!("{expected:.3}"));
            prop_assert!(has_text(ms));
        }
    }

    #[test]
    fn times_beyond_the_calendar_have_no_text() {
        assert!(!has_text(-62_167_219_200_001) && !has_text(253_402_300_800_000));
        assert!(!has_text(i64::MIN) && !has_text(i64::MAX));
    }
}
