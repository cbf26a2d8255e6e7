//! Event time, watermarks and durations, all in milliseconds.
//!
//! A watermark of t says: no row with an event time of t or less is expected any more. A source
//! with bounded out-of-orderness `delay` has the watermark `largest event time - delay - 1`.

use std::fmt;

/// Milliseconds since 1970-01-01T00:00:00Z; may be negative.
pub type Time = i64;

/// No watermark yet.
pub const NEVER: Time = i64::MIN;
/// The watermark after the end of a bounded input: everything is due.
pub const END: Time = i64::MAX;

/// The watermark of a source whose largest event time is `max` ([`NEVER`] before any row).
#[inline(always)]
pub fn watermark(max: Time, delay_ms: i64) -> Time {
    if max == NEVER { NEVER } else { max.saturating_sub(delay_ms).saturating_sub(1) }
}

/// Start of the window of `size` ms (moved by `offset` ms) that holds `time`.
#[inline(always)]
pub fn window_start(time: Time, offset: i64, size: i64) -> Time {
    time - (time - offset).rem_euclid(size)
}

/// Reads `"250ms"`, `"5s"`, `"10m"`, `"1h"`, `"7d"`, with an optional sign, as milliseconds.
///
/// # Errors
/// A text that says what is wrong and what would be right.
pub fn parse_duration(text: &str) -> Result<i64, String> {
    let hint = "a duration is a number with a unit: \"250ms\", \"5s\", \"10m\", \"1h\" or \"7d\"";
    let digits = text.trim_start_matches(['-', '+']);
    let at = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    let (number, unit) = digits.split_at(at);
    if text.len() - digits.len() > 1 {
        return Err(hint.into());
    }
    let factor = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "" => return Err(format!("the unit is missing; {hint}")),
        _ => return Err(hint.into()),
    };
    let number: i64 = number.parse().map_err(|_| hint.to_string())?;
    let ms = number.checked_mul(factor).ok_or("the duration is too long to count in ms")?;
    Ok(if text.starts_with('-') { -ms } else { ms })
}

/// A duration in ms, shown in the largest unit that divides it.
pub struct Duration(pub i64);

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
        let found = units.iter().find(|(ms, _)| self.0 != 0 && self.0 % ms == 0);
        let (ms, unit) = found.copied().unwrap_or((1, "ms"));
        write!(f, "{}{unit}", self.0 / ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_shown() {
        for (text, ms) in [("250ms", 250), ("5s", 5_000), ("10m", 600_000), ("-1h", -3_600_000)] {
            assert_eq!(parse_duration(text), Ok(ms));
            assert_eq!(Duration(ms).to_string(), text);
        }
        assert_eq!(parse_duration("7d"), Ok(604_800_000));
        for wrong in ["", "5", "s", "5 s", "--5s", "1.5s", "99999999999999999d", "5w"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn windows_start_where_flink_starts_them() {
        assert_eq!(window_start(0, 0, 10), 0);
        assert_eq!(window_start(-1, 0, 10), -10);
        assert_eq!(window_start(9, 3, 10), 3);
        assert_eq!(window_start(2, 3, 10), -7);
    }

    #[test]
    fn no_watermark_stays_none() {
        assert_eq!(watermark(NEVER, 5_000), NEVER);
        assert_eq!(watermark(10_000, 5_000), 4_999);
    }
}
