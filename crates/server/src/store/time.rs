//! Wall-clock time, as an argument: nothing in the store or the limits reads a clock by itself.

use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::types::{FromSql, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use serde::{Serialize, Serializer};

/// Milliseconds since the start of 1970 in UTC; JSON has whole seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixTime(u64);

impl UnixTime {
    /// The latest time there is: the year 9999 and no more, so that no sum of two times overflows.
    const LATEST: u64 = 253_402_300_799_999;

    /// What the system's clock says.
    pub fn now() -> UnixTime {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        UnixTime::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    /// A time from milliseconds; later than the year 9999 becomes its end.
    pub fn from_millis(millis: u64) -> UnixTime {
        UnixTime(millis.min(UnixTime::LATEST))
    }

    /// A time from seconds; later than the year 9999 becomes its end.
    pub fn from_seconds(seconds: u64) -> UnixTime {
        UnixTime::from_millis(seconds.saturating_mul(1000))
    }

    /// The start of a day, counted from 1970, in UTC.
    pub const fn from_day(day: u16) -> UnixTime {
        UnixTime(day as u64 * 86_400_000)
    }

    /// Milliseconds since 1970.
    pub fn millis(self) -> u64 {
        self.0
    }

    /// Whole seconds since 1970.
    pub fn seconds(self) -> u64 {
        self.0 / 1000
    }

    /// Days since 1970, in UTC.
    pub fn day(self) -> u32 {
        u32::try_from(self.seconds() / 86_400).unwrap_or(u32::MAX)
    }

    /// Milliseconds until the next day begins, in UTC.
    pub fn until_tomorrow(self) -> u64 {
        86_400_000 - self.0 % 86_400_000
    }

    /// The time `millis` before this one, or the start of 1970.
    #[must_use]
    pub fn before(self, millis: u64) -> UnixTime {
        UnixTime(self.0.saturating_sub(millis))
    }

    /// The time `millis` after this one.
    #[must_use]
    pub fn after(self, millis: u64) -> UnixTime {
        UnixTime::from_millis(self.0.saturating_add(millis))
    }
}

impl Serialize for UnixTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.seconds())
    }
}

impl ToSql for UnixTime {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::from(i64::try_from(self.0).unwrap_or(i64::MAX)))
    }
}

impl FromSql for UnixTime {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<UnixTime> {
        u64::column_result(value).map(UnixTime::from_millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_begin_at_midnight_in_utc() {
        let last = UnixTime::from_millis(86_399_999);
        assert_eq!((last.day(), last.until_tomorrow()), (0, 1));
        let first = last.after(1);
        assert_eq!((first.day(), first.until_tomorrow()), (1, 86_400_000));
        assert_eq!(UnixTime::from_seconds(1_700_000_000).day(), 19_675); // 2023-11-14
    }

    #[test]
    fn no_time_overflows() {
        let end = UnixTime::from_seconds(u64::MAX);
        assert_eq!(end.after(u64::MAX), end);
        assert_eq!(UnixTime::default().before(1), UnixTime::default());
        assert_eq!(end.day(), 2_932_896); // 9999-12-31
    }
}
