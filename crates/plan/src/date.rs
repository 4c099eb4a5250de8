//! Days of the calendar, as far as they are known: `2025`, `2025-08` or `2025-08-15`.

use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A day, month or year. A month comes before its first day, so a rule of `2025-08` is in force on `2025-08-01`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Date {
    year: u16,
    month: Option<u8>,
    day: Option<u8>,
}

/// A text that is no date.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is no date; write YYYY-MM-DD, YYYY-MM or YYYY")]
pub struct DateError(pub String);

impl Date {
    /// The day that holds a moment, in UTC.
    pub fn of(time: SystemTime) -> Date {
        let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        // Days to a date of the proleptic Gregorian calendar: Hinnant, "chrono-compatible low-level date algorithms".
        let z = seconds / 86_400 + 719_468;
        let day_of_era = z % 146_097;
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted + 2) / 5 + 1;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        let year = year_of_era + z / 146_097 * 400 + u64::from(month <= 2);
        Date {
            year: u16::try_from(year).unwrap_or(u16::MAX),
            month: u8::try_from(month).ok(),
            day: u8::try_from(day).ok(),
        }
    }

    /// Today, in UTC, by the machine's clock.
    pub fn today() -> Date {
        Date::of(SystemTime::now())
    }
}

fn days_of(year: u16, month: u8) -> u8 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        _ => 31,
    }
}

fn digits(text: &str, length: usize) -> Option<u16> {
    (text.len() == length && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

impl FromStr for Date {
    type Err = DateError;

    fn from_str(text: &str) -> Result<Date, DateError> {
        let parsed = || {
            let mut parts = text.split('-');
            let year = digits(parts.next()?, 4).filter(|y| (1900..=2999).contains(y))?;
            let part = |text: Option<&str>, most: u8| match text {
                None => Some(None),
                Some(t) => u8::try_from(digits(t, 2)?).ok().filter(|n| (1..=most).contains(n)).map(Some),
            };
            let month = part(parts.next(), 12)?;
            let day = part(parts.next(), month.map_or(31, |m| days_of(year, m)))?;
            parts.next().is_none().then_some(Date { year, month, day })
        };
        parsed().ok_or_else(|| DateError(text.chars().take(40).collect()))
    }
}

impl TryFrom<String> for Date {
    type Error = DateError;

    fn try_from(text: String) -> Result<Date, DateError> {
        text.parse()
    }
}

impl From<Date> for String {
    fn from(date: Date) -> String {
        date.to_string()
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = format!("{:04}", self.year);
        for part in [self.month, self.day].into_iter().flatten() {
            text += &format!("-{part:02}");
        }
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn date(text: &str) -> Date {
        text.parse().unwrap()
    }

    #[test]
    fn seconds_become_days() {
        for (seconds, day) in [(0, "1970-01-01"), (951_782_400, "2000-02-29"), (1_768_435_199, "2026-01-14")]
        {
            assert_eq!(Date::of(UNIX_EPOCH + Duration::from_secs(seconds)), date(day));
        }
    }

    #[test]
    fn a_month_begins_before_its_first_day() {
        assert!(date("2025-08") < date("2025-08-01") && date("2025-07-31") < date("2025-08"));
        assert_eq!(date("2025-08").to_string(), "2025-08");
    }

    #[test]
    fn what_is_no_day_is_refused() {
        for text in
            ["", "25-01-01", "2025-13", "2025-02-29", "2025-1-1", "2025-01-01-01", "+025", "2025-00", "٢٠٢٥"]
        {
            assert_eq!(text.parse::<Date>(), Err(DateError(text.to_owned())));
        }
        assert!("2024-02-29".parse::<Date>().is_ok());
    }
}
