//! Times as people type them: `15m`, `90d`; a date is RFC 3339 in UTC or Unix seconds.

use borgios_types::UnixSeconds;

/// Seconds of `20s`, `15m`, `12h`, `7d` or `4w`; never none.
pub(crate) fn seconds(text: &str) -> Result<u64, String> {
    let bad = || format!("{text:?} is no time: write 20s, 15m, 12h, 7d or 4w");
    let unit = match text.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3_600,
        Some('d') => 86_400,
        Some('w') => 7 * 86_400,
        _ => return Err(bad()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| bad())?;
    number.checked_mul(unit).filter(|s| (1..=3_660 * 86_400).contains(s)).ok_or_else(bad)
}

/// `2026-11-27T00:00:00Z`, or seconds since 1970.
pub(crate) fn date(text: &str) -> Result<UnixSeconds, String> {
    let bad = || format!("{text:?} is no date: write 2026-11-27T00:00:00Z, or Unix seconds");
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(UnixSeconds(seconds));
    }
    let number = |from: usize, to: usize| -> Option<u64> {
        let part = text.get(from..to)?;
        part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse().ok())?
    };
    let fields = || {
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
        // Days from the civil date: Howard Hinnant, "chrono-compatible low-level date algorithms".
        let shifted = if month > 2 { (year, month - 3) } else { (year.checked_sub(1)?, month + 9) };
        let (era, year_of_era) = (shifted.0 / 400, shifted.0 % 400);
        let day_of_year = (153 * shifted.1 + 2) / 5 + day.checked_sub(1)?;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let days = (era * 146_097 + day_of_era).checked_sub(719_468)?;
        Some(UnixSeconds(days * 86_400 + hour * 3_600 + minute * 60 + second))
    };
    // What is read must be written back as it was: no 30th of February, no blanks.
    fields().filter(|date| date.to_string() == text).ok_or_else(bad)
}

/// The two largest units of a length of time, for people.
pub(crate) fn words(seconds: u64) -> String {
    let units = [("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)];
    let at = units.iter().position(|(_, length)| seconds >= *length).unwrap_or(3);
    let (unit, length) = units[at];
    let mut text = format!("{} {unit}", seconds / length);
    if let Some((unit, smaller)) = units.get(at + 1)
        && seconds % length >= *smaller
    {
        text.push_str(&format!(" {} {unit}", seconds % length / smaller));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        assert_eq!((seconds("20s"), seconds("90d")), (Ok(20), Ok(7_776_000)));
        for bad in ["", "7", "d", "-1d", "99999w", "7ü", "0m", "18446744073709551615w"] {
            assert!(seconds(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn dates_are_read_as_they_are_written() {
        for seconds in [0, 951_782_400, 1_795_238_999, 4_102_444_799] {
            let text = UnixSeconds(seconds).to_string();
            assert_eq!(date(&text), Ok(UnixSeconds(seconds)), "{text}");
            assert_eq!(date(&seconds.to_string()), Ok(UnixSeconds(seconds)));
        }
        for bad in ["", "2026-02-30T00:00:00Z", "2026-11-27", "2026-11-27T00:00:00", "tomorrow"] {
            assert!(date(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn lengths_are_short() {
        assert_eq!(words(0), "0 s");
        assert_eq!(words(90), "1 min 30 s");
        assert_eq!(words(86_400), "1 d");
        assert_eq!(words(93_600), "1 d 2 h");
    }
}
