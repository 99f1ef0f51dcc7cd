//! Calendar dates and times of day in UTC, for what people and HTTP exchange; nothing in the program decides by them.
//!
//! The algorithms are those of Howard Hinnant's "chrono-compatible low-level date algorithms", valid for the proleptic
//! Gregorian calendar. There is no time zone here, and no leap second: Unix time has none.

use std::fmt;
use std::time::{Duration, SystemTime};

/// A moment, broken down. `Display` is RFC 3339 with milliseconds: `2026-11-22T14:04:37.123Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Utc {
    year: i64,
    month: u32,
    day: u32,
    /// Within the day.
    milliseconds: u32,
}

const DAY_SECONDS: u64 = 86_400;

impl Utc {
    /// The date alone, `2026-11-22`, for messages that must stay the same from one poll to the next.
    pub fn date(&self) -> String {
        format!("{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

impl From<SystemTime> for Utc {
    /// A time before 1970 shows as its start: no clock of a running host means it.
    fn from(time: SystemTime) -> Utc {
        let since_epoch = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let (year, month, day) = civil(since_epoch.as_secs() / DAY_SECONDS);
        let milliseconds = (since_epoch.as_secs() % DAY_SECONDS) as u32 * 1000 + since_epoch.subsec_millis();
        Utc { year, month, day, milliseconds }
    }
}

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.milliseconds / 1000;
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        write!(f, "{}T{hour:02}:{minute:02}:{second:02}.{:03}Z", self.date(), self.milliseconds % 1000)
    }
}

/// The time in an HTTP date, `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, section 5.6.7); `None` for anything else, the
/// two obsolete forms included.
pub fn from_http_date(text: &str) -> Option<SystemTime> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (_weekday, rest) = text.trim().split_once(", ")?;
    let [day, month, year, time, "GMT"] = rest.split(' ').collect::<Vec<_>>()[..] else { return None };
    let [hour, minute, second] = time.split(':').map(number).collect::<Option<Vec<_>>>()?[..] else { return None };
    let month = MONTHS.iter().position(|name| *name == month)? as u64 + 1;
    let (day, year) = (number(day)?, number(year)?);
    if !(1970..=9999).contains(&year) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let seconds = days(year, month, day) * DAY_SECONDS + hour * 3600 + minute * 60 + second;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

/// Digits only: `parse` alone would take a sign.
fn number(digits: &str) -> Option<u64> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// Year, month and day of a day counted from 1970-01-01.
fn civil(day: u64) -> (i64, u32, u32) {
    // Eras of 400 years start on 1 March of year 0, which is 719,468 days before 1970.
    let day = day as i64 + 719_468;
    let (era, of_era) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month as u32, day as u32)
}

/// The inverse of `civil`, for years from 1970.
fn days(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year / 400, year % 400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64, milliseconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_millis(milliseconds)
    }

    #[test]
    fn shows_rfc_3339() {
        // The expected texts are those of date(1): `date -u -d @SECONDS +%FT%TZ`.
        for (seconds, milliseconds, text) in [
            (0, 0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, 999, "2000-02-28T23:59:59.999Z"),
            (951_782_400, 0, "2000-02-29T00:00:00.000Z"),
            (1_795_356_277, 123, "2026-11-22T14:04:37.123Z"),
            (4_107_542_400, 5, "2100-03-01T00:00:00.005Z"),
        ] {
            assert_eq!(Utc::from(at(seconds, milliseconds)).to_string(), text);
        }
        assert_eq!(Utc::from(at(0, 0) - Duration::from_secs(9)).date(), "1970-01-01");
    }

    #[test]
    fn every_day_of_two_centuries_converts_back() {
        for day in 0..73_050 {
            let (year, month, of_month) = civil(day);
            assert_eq!(days(year as u64, u64::from(month), u64::from(of_month)), day);
        }
    }

    #[test]
    fn reads_http_dates_and_nothing_else() {
        assert_eq!(from_http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(at(784_111_777, 0)));
        for text in [
            "",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Sun, 06 Nov 1994 24:49:37 GMT",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1969 08:49:37 GMT",
            "Sun, 06 Nov +994 08:49:37 GMT",
            "Sun, 06 Nov 99999999999999999999 08:49:37 GMT",
        ] {
            assert_eq!(from_http_date(text), None, "{text}");
        }
    }
}
