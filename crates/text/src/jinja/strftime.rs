//! Dates for templates that tell the model today's.

use super::budget::Fault;

/// A date and time of the Gregorian calendar. The caller supplies it: a rendering reads no clock, so the same
/// conversation gives the same text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DateTime {
    /// The year.
    pub year: i32,
    /// The month, from 1.
    pub month: u32,
    /// The day of the month, from 1.
    pub day: u32,
    /// The hour, 0 to 23.
    pub hour: u32,
    /// The minute.
    pub minute: u32,
    /// The second.
    pub second: u32,
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
const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

impl DateTime {
    /// The date and time that lies `seconds` after 1970-01-01 00:00 UTC.
    #[must_use]
    pub fn from_unix(seconds: i64) -> Self {
        let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        // Days from civil, inverted: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms". The era
        // of 400 years begins on 1 March.
        let days = days + 719_468;
        let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * day_of_year + 2) / 153;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        let year = year_of_era + era.saturating_mul(400) + i64::from(month <= 2);
        Self {
            year: i32::try_from(year).unwrap_or(i32::MAX),
            month: month as u32,
            day: (day_of_year - (153 * shifted + 2) / 5 + 1) as u32,
            hour: (rest / 3_600) as u32,
            minute: (rest / 60 % 60) as u32,
            second: (rest % 60) as u32,
        }
    }

    /// The day of the week, Sunday 0 (Sakamoto's method).
    fn weekday(self) -> usize {
        const SHIFTS: [i64; 12] = [0, 3, 2, 5, 0, 3, 5, 1, 4, 6, 2, 4];
        let year = i64::from(self.year) - i64::from(self.month < 3);
        let shift = SHIFTS.get((self.month as usize).wrapping_sub(1)).copied().unwrap_or_default();
        let day = year + year.div_euclid(4) - year.div_euclid(100)
            + year.div_euclid(400)
            + shift
            + i64::from(self.day);
        day.rem_euclid(7) as usize
    }

    /// The day of the year, from 1.
    fn year_day(self) -> u32 {
        const BEFORE: [u32; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
        let leap = self.year.rem_euclid(4) == 0
            && (self.year.rem_euclid(100) != 0 || self.year.rem_euclid(400) == 0);
        let before = BEFORE.get((self.month as usize).wrapping_sub(1)).copied().unwrap_or_default();
        before.saturating_add(self.day) + u32::from(leap && self.month > 2)
    }

    /// C's `strftime` in the C locale; the directives that templates use.
    pub(super) fn format(self, format: &str) -> Result<String, Fault> {
        let month = MONTHS.get((self.month as usize).wrapping_sub(1)).copied().unwrap_or_default();
        let weekday = WEEKDAYS.get(self.weekday()).copied().unwrap_or_default();
        let short = |name: &'static str| name.get(..3).unwrap_or(name);
        let hour12 = match self.hour % 12 {
            0 => 12,
            hour => hour,
        };
        let mut out = String::new();
        let mut chars = format.chars();
        while let Some(c) = chars.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            let mut directive = chars.next();
            // glibc's flag: no padding.
            let plain = directive == Some('-');
            if plain {
                directive = chars.next();
            }
            let mut number = |value: i64, width: usize| {
                out.push_str(&if plain { value.to_string() } else { format!("{value:0width$}") });
            };
            match directive {
                Some('Y') => number(self.year.into(), 4),
                Some('y') => number(self.year.rem_euclid(100).into(), 2),
                Some('m') => number(self.month.into(), 2),
                Some('d') => number(self.day.into(), 2),
                Some('H') => number(self.hour.into(), 2),
                Some('I') => number(hour12.into(), 2),
                Some('M') => number(self.minute.into(), 2),
                Some('S') => number(self.second.into(), 2),
                Some('j') => number(self.year_day().into(), 3),
                Some('e') => out.push_str(&format!("{:2}", self.day)),
                Some('B') => out.push_str(month),
                Some('b' | 'h') => out.push_str(short(month)),
                Some('A') => out.push_str(weekday),
                Some('a') => out.push_str(short(weekday)),
                Some('p') => out.push_str(if self.hour < 12 { "AM" } else { "PM" }),
                Some('F') => out.push_str(&format!("{:04}-{:02}-{:02}", self.year, self.month, self.day)),
                Some('T') => out.push_str(&format!("{:02}:{:02}:{:02}", self.hour, self.minute, self.second)),
                Some('%') => out.push('%'),
                Some(other) => return Err(Fault::new(format!("`%{other}` is no known part of a date"))),
                None => return Err(Fault::new("a date format ends with `%`")),
            }
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let leap = DateTime::from_unix(951_782_399);
        assert_eq!(leap.format("%A %d %b %Y %H:%M:%S %j").unwrap(), "Monday 28 Feb 2000 23:59:59 059");
        assert_eq!(
            DateTime::from_unix(951_782_400).format("%a %-d %B %F %j %p").unwrap(),
            "Tue 29 February 2000-02-29 060 AM"
        );
        assert_eq!(DateTime::from_unix(-1).format("%Y-%m-%d %T").unwrap(), "1969-12-31 23:59:59");
        assert_eq!(DateTime::from_unix(1_795_000_000).format("%d %b %Y").unwrap(), "18 Nov 2026");
        assert!(leap.format("%Q").is_err() && leap.format("%").is_err());
        // Extremes must not overflow.
        for seconds in [i64::MIN, i64::MAX] {
            let _ = DateTime::from_unix(seconds).format("%A %j");
        }
    }
}
