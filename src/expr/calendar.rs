//! Dates and times of day in UTC, for milliseconds of any sign (proleptic Gregorian calendar; days
//! to years by Howard Hinnant's `civil_from_days`).

/// A part of a time, or the grain to which it is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Millisecond,
    Second,
    Minute,
    Hour,
    Day,
    /// ISO: starts on Monday; week 1 has the year's first Thursday.
    Week,
    Month,
    Quarter,
    Year,
    IsoYear,
    /// Sunday is 1.
    DayOfWeek,
    /// Monday is 1.
    IsoDayOfWeek,
    DayOfYear,
    Decade,
    Century,
    Millennium,
    /// Seconds since 1970.
    Epoch,
}

const DAY: i64 = 86_400_000;

impl Unit {
    /// A unit by its SQL name, in any case, singular or plural.
    pub fn named(name: &str) -> Option<Unit> {
        let name = name.to_ascii_uppercase();
        Some(match name.strip_suffix('S').unwrap_or(&name) {
            "MILLISECOND" => Unit::Millisecond,
            "SECOND" => Unit::Second,
            "MINUTE" => Unit::Minute,
            "HOUR" => Unit::Hour,
            "DAY" => Unit::Day,
            "WEEK" | "ISOWEEK" => Unit::Week,
            "MONTH" => Unit::Month,
            "QUARTER" => Unit::Quarter,
            "YEAR" => Unit::Year,
            "ISOYEAR" => Unit::IsoYear,
            "DOW" | "DAYOFWEEK" => Unit::DayOfWeek,
            "ISODOW" => Unit::IsoDayOfWeek,
            "DOY" | "DAYOFYEAR" => Unit::DayOfYear,
            "DECADE" => Unit::Decade,
            "CENTURY" => Unit::Century,
            "MILLENNIUM" | "MILLENIUM" => Unit::Millennium,
            "EPOCH" => Unit::Epoch,
            _ => return None,
        })
    }

    /// Length in ms, for units that have one.
    pub fn millis(self) -> Option<i64> {
        match self {
            Unit::Millisecond => Some(1),
            Unit::Second => Some(1_000),
            Unit::Minute => Some(60_000),
            Unit::Hour => Some(3_600_000),
            Unit::Day => Some(DAY),
            Unit::Week => Some(7 * DAY),
            _ => None,
        }
    }

    /// Length in months, for units that are counted in them.
    pub fn months(self) -> Option<i64> {
        match self {
            Unit::Month => Some(1),
            Unit::Quarter => Some(3),
            Unit::Year => Some(12),
            Unit::Decade => Some(120),
            Unit::Century => Some(1_200),
            Unit::Millennium => Some(12_000),
            _ => None,
        }
    }

    /// Whether a time can be cut to it.
    pub fn is_grain(self) -> bool {
        self.millis().is_some() || self.months().is_some()
    }
}

/// Year, month and day of a number of days since 1970-01-01.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

/// Days since 1970-01-01 of a date.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    year.div_euclid(400) * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn month_len(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Monday is 0.
fn weekday(day: i64) -> i64 {
    (day + 3).rem_euclid(7)
}

/// The ISO year that a day's week belongs to.
fn iso_year(day: i64) -> i64 {
    // The Thursday of the week decides.
    civil(day - weekday(day) + 3).0
}

/// One part of a time.
pub(crate) fn field(unit: Unit, time: i64) -> i64 {
    let (day, of_day) = (time.div_euclid(DAY), time.rem_euclid(DAY));
    let (year, month, of_month) = civil(day);
    match unit {
        Unit::Millisecond => of_day % 1_000,
        Unit::Second => of_day / 1_000 % 60,
        Unit::Minute => of_day / 60_000 % 60,
        Unit::Hour => of_day / 3_600_000,
        Unit::Day => of_month,
        Unit::Week => {
            let first = days(iso_year(day), 1, 4);
            (day - (first - weekday(first))) / 7 + 1
        }
        Unit::Month => month,
        Unit::Quarter => (month + 2) / 3,
        Unit::Year => year,
        Unit::IsoYear => iso_year(day),
        Unit::DayOfWeek => (weekday(day) + 1) % 7 + 1,
        Unit::IsoDayOfWeek => weekday(day) + 1,
        Unit::DayOfYear => day - days(year, 1, 1) + 1,
        Unit::Decade => year.div_euclid(10),
        Unit::Century => (year - 1).div_euclid(100) + 1,
        Unit::Millennium => (year - 1).div_euclid(1_000) + 1,
        Unit::Epoch => time.div_euclid(1_000),
    }
}

/// The start of the unit that holds `time`; `None` if it does not fit.
pub(crate) fn truncate(unit: Unit, time: i64) -> Option<i64> {
    if unit == Unit::Week {
        let day = time.div_euclid(DAY);
        return (day - weekday(day)).checked_mul(DAY);
    }
    if let Some(millis) = unit.millis() {
        return time.checked_sub(time.rem_euclid(millis));
    }
    let (year, month, _) = civil(time.div_euclid(DAY));
    // Centuries and millennia start with the year 1, decades with the year 0, as in PostgreSQL.
    let origin = if matches!(unit, Unit::Century | Unit::Millennium) { 12 } else { 0 };
    let month = year * 12 + month - 1 - origin;
    let start = month - month.rem_euclid(unit.months()?) + origin;
    days(start.div_euclid(12), start.rem_euclid(12) + 1, 1).checked_mul(DAY)
}

/// The first start of a unit at or after `time`.
pub(crate) fn round_up(unit: Unit, time: i64) -> Option<i64> {
    let start = truncate(unit, time)?;
    if start == time {
        return Some(time);
    }
    match (unit.millis(), unit.months()) {
        (Some(millis), _) => start.checked_add(millis),
        (None, months) => add_months(start, months?),
    }
}

/// The same day and time some months later, or the last day of that month if it is shorter.
pub(crate) fn add_months(time: i64, months: i64) -> Option<i64> {
    let (day, of_day) = (time.div_euclid(DAY), time.rem_euclid(DAY));
    let (year, month, of_month) = civil(day);
    let month = (year * 12 + month - 1).checked_add(months)?;
    let (year, month) = (month.div_euclid(12), month.rem_euclid(12) + 1);
    if year.abs() > 400_000_000 {
        return None;
    }
    let day = days(year, month, of_month.min(month_len(year, month)));
    day.checked_mul(DAY)?.checked_add(of_day)
}

/// Whole months from `from` to `to`, towards zero.
pub(crate) fn months_between(from: i64, to: i64) -> i64 {
    if from > to {
        return -months_between(to, from);
    }
    let place = |time: i64| {
        let (year, month, day) = civil(time.div_euclid(DAY));
        (year * 12 + month, (day, time.rem_euclid(DAY)))
    };
    let ((first, from), (last, to)) = (place(from), place(to));
    last - first - i64::from(to < from)
}

/// Reads `2024-05-01`, `2024-05-01 12:30`, `2024-05-01T12:30:00.123Z`, `... +02:00`. Places after
/// the third of a second are cut off.
pub(crate) fn parse(text: &[u8]) -> Option<i64> {
    let mut rest = text.trim_ascii();
    let negative = rest.first() == Some(&b'-');
    rest = &rest[usize::from(negative)..];
    let year = number(&mut rest, 4, 6)?;
    eat(&mut rest, b'-')?;
    let month = number(&mut rest, 1, 2)?;
    eat(&mut rest, b'-')?;
    let day = number(&mut rest, 1, 2)?;
    let year = if negative { -year } else { year };
    if !(1..=12).contains(&month) || day < 1 || day > month_len(year, month) {
        return None;
    }
    let midnight = days(year, month, day).checked_mul(DAY)?;
    if rest.is_empty() {
        return Some(midnight);
    }
    eat(&mut rest, b'T').or_else(|| eat(&mut rest, b' '))?;
    let hour = number(&mut rest, 1, 2)?;
    eat(&mut rest, b':')?;
    let minute = number(&mut rest, 1, 2)?;
    let (mut second, mut millis) = (0, 0);
    if eat(&mut rest, b':').is_some() {
        second = number(&mut rest, 1, 2)?;
        if eat(&mut rest, b'.').is_some() {
            let len = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            for place in 0..3 {
                let digit = rest[..len].get(place).map_or(0, |byte| byte - b'0');
                millis = millis * 10 + i64::from(digit);
            }
            rest = if len == 0 { return None } else { &rest[len..] };
        }
    }
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let of_day = ((hour * 60 + minute) * 60 + second) * 1_000 + millis;
    midnight.checked_add(of_day)?.checked_sub(zone(rest.trim_ascii_start())?)
}

/// Milliseconds east of UTC: nothing, `Z`, `+02:00`, `-0530`, `+02`.
fn zone(mut rest: &[u8]) -> Option<i64> {
    let sign = match rest.first() {
        None => return Some(0),
        Some(b'Z' | b'z') => return (rest.len() == 1).then_some(0),
        Some(b'+') => 1,
        Some(b'-') => -1,
        Some(_) => return None,
    };
    rest = &rest[1..];
    let hours = number(&mut rest, 2, 2)?;
    let minutes = if rest.is_empty() {
        0
    } else {
        let _ = eat(&mut rest, b':');
        number(&mut rest, 2, 2)?
    };
    (rest.is_empty() && hours <= 18 && minutes < 60)
        .then_some(sign * (hours * 60 + minutes) * 60_000)
}

fn eat(rest: &mut &[u8], byte: u8) -> Option<()> {
    *rest = rest.strip_prefix(&[byte])?;
    Some(())
}

fn number(rest: &mut &[u8], least: usize, most: usize) -> Option<i64> {
    let len = rest.iter().take(most).take_while(|byte| byte.is_ascii_digit()).count();
    if len < least {
        return None;
    }
    let (digits, behind) = rest.split_at(len);
    *rest = behind;
    Some(digits.iter().fold(0, |n, byte| n * 10 + i64::from(byte - b'0')))
}

/// A pattern of DATE_FORMAT, in the letters of Java's `DateTimeFormatter` that a time without a
/// zone needs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Format(Box<[Piece]>);

#[derive(Clone, Debug, PartialEq)]
enum Piece {
    Text(Box<str>),
    /// A number, padded to so many digits; a year of two is cut to its last two.
    Number(Unit, usize),
    /// Hour of half a day, from 1.
    HalfHour(usize),
    /// Fraction of a second, so many digits.
    Fraction(usize),
    /// AM or PM.
    Half,
    MonthName(bool),
    DayName(bool),
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] =
    ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

impl Format {
    /// Reads a pattern; `Err` says what it has that is not known.
    pub fn new(pattern: &str) -> Result<Format, String> {
        let mut pieces: Vec<Piece> = Vec::new();
        let mut text = String::new();
        let mut rest = pattern;
        while let Some(c) = rest.chars().next() {
            if c == '\'' {
                let (inside, behind) =
                    quoted(&rest[1..]).ok_or("a quote in the pattern is not closed")?;
                text.push_str(&inside);
                rest = behind;
                continue;
            }
            if !c.is_ascii_alphabetic() {
                text.push(c);
                rest = &rest[c.len_utf8()..];
                continue;
            }
            let len = rest.bytes().take_while(|&byte| byte == c as u8).count();
            if !text.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut text).into()));
            }
            pieces.push(
                Piece::of(c, len).ok_or_else(|| {
                    format!("`{}` is not a letter of date patterns", &rest[..len])
                })?,
            );
            rest = &rest[len..];
        }
        if !text.is_empty() {
            pieces.push(Piece::Text(text.into()));
        }
        Ok(Format(pieces.into()))
    }

    /// Writes a time.
    pub fn write(&self, time: i64, out: &mut Vec<u8>) {
        for piece in &self.0 {
            piece.write(time, out);
        }
    }
}

/// A quoted part (`''` is a quote) and what follows.
fn quoted(rest: &str) -> Option<(String, &str)> {
    if let Some(behind) = rest.strip_prefix('\'') {
        return Some(("'".into(), behind));
    }
    let mut inside = String::new();
    let mut rest = rest;
    loop {
        let at = rest.find('\'')?;
        inside.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        match rest.strip_prefix('\'') {
            Some(behind) => {
                inside.push('\'');
                rest = behind;
            }
            None => return Some((inside, rest)),
        }
    }
}

impl Piece {
    fn of(letter: char, len: usize) -> Option<Piece> {
        Some(match (letter, len) {
            ('y' | 'u', 1..=6) => Piece::Number(Unit::Year, len),
            ('M' | 'L', 1..=2) => Piece::Number(Unit::Month, len),
            ('M' | 'L', 3..=4) => Piece::MonthName(len == 3),
            ('d', 1..=2) => Piece::Number(Unit::Day, len),
            ('D', 1..=3) => Piece::Number(Unit::DayOfYear, len),
            ('H', 1..=2) => Piece::Number(Unit::Hour, len),
            ('h', 1..=2) => Piece::HalfHour(len),
            ('m', 1..=2) => Piece::Number(Unit::Minute, len),
            ('s', 1..=2) => Piece::Number(Unit::Second, len),
            ('S', 1..=9) => Piece::Fraction(len),
            ('a', 1) => Piece::Half,
            ('E', 1..=3) => Piece::DayName(true),
            ('E', 4) => Piece::DayName(false),
            ('Q' | 'q', 1..=2) => Piece::Number(Unit::Quarter, len),
            ('Y', 1..=6) => Piece::Number(Unit::IsoYear, len),
            ('w', 1..=2) => Piece::Number(Unit::Week, len),
            _ => return None,
        })
    }

    fn write(&self, time: i64, out: &mut Vec<u8>) {
        match self {
            Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
            Piece::Number(Unit::Year | Unit::IsoYear, 2) => {
                padded(field(Unit::Year, time).rem_euclid(100), 2, out);
            }
            Piece::Number(unit, len) => padded(field(*unit, time), *len, out),
            Piece::HalfHour(len) => padded((field(Unit::Hour, time) + 11) % 12 + 1, *len, out),
            Piece::Fraction(len) => {
                let start = out.len();
                padded(field(Unit::Millisecond, time), 3, out);
                out.resize(start + len, b'0');
            }
            Piece::Half => {
                out.extend_from_slice(if field(Unit::Hour, time) < 12 { b"AM" } else { b"PM" });
            }
            Piece::MonthName(short) => {
                let name = MONTHS[field(Unit::Month, time) as usize - 1];
                out.extend_from_slice(if *short { &name[..3] } else { name }.as_bytes());
            }
            Piece::DayName(short) => {
                let name = WEEKDAYS[field(Unit::IsoDayOfWeek, time) as usize - 1];
                out.extend_from_slice(if *short { &name[..3] } else { name }.as_bytes());
            }
        }
    }
}

fn padded(number: i64, len: usize, out: &mut Vec<u8>) {
    if number < 0 {
        out.push(b'-');
    }
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(number.unsigned_abs());
    out.resize(out.len() + len.saturating_sub(digits.len()), b'0');
    out.extend_from_slice(digits.as_bytes());
}

/// Writes `yyyy-MM-dd HH:mm:ss.SSS`, as Flink casts a TIMESTAMP(3) to STRING.
pub(crate) fn format_default(time: i64, out: &mut Vec<u8>) {
    let (year, month, day) = civil(time.div_euclid(DAY));
    padded(year, 4, out);
    for (before, number, len) in [
        (b'-', month, 2),
        (b'-', day, 2),
        (b' ', field(Unit::Hour, time), 2),
        (b':', field(Unit::Minute, time), 2),
        (b':', field(Unit::Second, time), 2),
        (b'.', field(Unit::Millisecond, time), 3),
    ] {
        out.push(before);
        padded(number, len, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(time: i64) -> String {
        let mut out = Vec::new();
        format_default(time, &mut out);
        String::from_utf8(out).unwrap()
    }

    proptest! {
        #[test]
        fn days_come_back(day in -200_000_000i64..200_000_000) {
            let (year, month, of_month) = civil(day);
            prop_assert_eq!(days(year, month, of_month), day);
        }

        #[test]
        fn fields_agree_with_another_calendar(time in -60_000_000_000_000i64..60_000_000_000_000) {
            let other = jiff::Timestamp::from_millisecond(time).unwrap();
            let other = other.to_zoned(jiff::tz::TimeZone::UTC);
            let week = other.date().iso_week_date();
            for (unit, expected) in [
                (Unit::Year, i64::from(other.year())),
                (Unit::Month, i64::from(other.month())),
                (Unit::Day, i64::from(other.day())),
                (Unit::Hour, i64::from(other.hour())),
                (Unit::Minute, i64::from(other.minute())),
                (Unit::Second, i64::from(other.second())),
                (Unit::Millisecond, i64::from(other.millisecond())),
                (Unit::DayOfYear, i64::from(other.day_of_year())),
                (Unit::Week, i64::from(week.week())),
                (Unit::IsoYear, i64::from(week.year())),
                (Unit::IsoDayOfWeek, i64::from(other.weekday().to_monday_one_offset())),
                (Unit::DayOfWeek, i64::from(other.weekday().to_sunday_one_offset())),
            ] {
                prop_assert_eq!(field(unit, time), expected, "{:?}", unit);
            }
            prop_assert_eq!(parse(shown(time).as_bytes()), Some(time));
        }

        #[test]
        fn a_cut_time_is_the_last_start_at_or_before(time in
            -60_000_000_000_000i64..60_000_000_000_000) {
            for unit in [Unit::Second, Unit::Minute, Unit::Hour, Unit::Day, Unit::Week, Unit::Month,
                         Unit::Quarter, Unit::Year, Unit::Decade, Unit::Century] {
                let start = truncate(unit, time).unwrap();
                prop_assert!(start <= time);
                prop_assert_eq!(truncate(unit, start), Some(start));
                let next = round_up(unit, start + 1).unwrap();
                prop_assert!(next > time && truncate(unit, next - 1) == Some(start));
            }
        }
    }

    #[test]
    fn times_are_read_in_the_usual_forms() {
        let at = |text: &str| parse(text.as_bytes());
        assert_eq!(at("1970-01-01"), Some(0));
        assert_eq!(at("1969-12-31 23:59:59.999"), Some(-1));
        assert_eq!(at("2024-02-29T12:30:00Z"), Some(1_709_209_800_000));
        assert_eq!(at("2024-02-29 12:30:00.1234567 +02:00"), Some(1_709_202_600_123));
        for wrong in [
            "",
            "2024",
            "2023-02-29",
            "2024-13-01",
            "2024-01-01 25:00",
            "2024-01-01x",
            "2024-01-01 10:00:00.",
            "2024-01-01 10:00 +25:00",
        ] {
            assert_eq!(at(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn months_keep_the_day_or_end_with_the_month() {
        let add = |text: &str, months| {
            shown(add_months(parse(text.as_bytes()).unwrap(), months).unwrap())
        };
        assert_eq!(add("2024-01-31 10:00", 1), "2024-02-29 10:00:00.000");
        assert_eq!(add("2024-03-31", -1), "2024-02-29 00:00:00.000");
        assert_eq!(add("1969-12-15", 1), "1970-01-15 00:00:00.000");
        assert_eq!(add_months(i64::MAX, 1), None);
        assert_eq!(add_months(0, i64::MAX), None);
    }

    #[test]
    fn patterns_write_times() {
        let write = |pattern: &str| {
            let mut out = Vec::new();
            Format::new(pattern).unwrap().write(1_709_209_805_007, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(write("yyyy-MM-dd HH:mm:ss"), "2024-02-29 12:30:05");
        assert_eq!(write("yy/M/d 'at' h:mm a"), "24/2/29 at 12:30 PM");
        assert_eq!(write("EEE, dd MMM yyyy HH:mm:ss.SSS"), "Thu, 29 Feb 2024 12:30:05.007");
        assert!(Format::new("yyyy-xx").is_err());
        assert!(Format::new("yyyy 'at").is_err());
    }

    #[test]
    fn extreme_times_do_not_panic() {
        for time in [i64::MIN, i64::MIN + 1, i64::MAX] {
            for unit in [Unit::Year, Unit::Week, Unit::Millennium, Unit::Day] {
                field(unit, time);
                truncate(unit, time);
                round_up(unit, time);
            }
            shown(time);
        }
    }
}
