//! Days of the Gregorian calendar and times as people and logs write them: UTC, without leap seconds. What time it is,
//! nobody here knows.
//!
//! The two directions are Howard Hinnant's, "chrono-compatible low-level date algorithms" (`days_from_civil` and
//! `civil_from_days`): years that begin in March have their odd day last.

use std::time::Duration;

const SECONDS_PER_DAY: u64 = 24 * 60 * 60;
/// From 0000-03-01 to 1970-01-01.
const DAYS_TO_1970: u32 = 719_468;

/// Days from 1970-01-01 to this day, in any year; the month is 1 to 12, the day counts from 1 and may go beyond the month.
pub fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + day_of_year - i64::from(DAYS_TO_1970)
}

/// Year, month and day, so many days after 1970-01-01.
pub fn date(days: u64) -> (u64, u64, u64) {
    let shifted = days + u64::from(DAYS_TO_1970);
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

/// `2026-11-22T11:58:26`, so many seconds after 1970 began. Right until the year 9999; nothing is allocated.
pub fn second_text(seconds: u64) -> [u8; 19] {
    let (year, month, day) = date(seconds / SECONDS_PER_DAY);
    let of_day = seconds % SECONDS_PER_DAY;
    let mut text = *b"0000-00-00T00:00:00";
    let parts = [
        (0..4, year),
        (5..7, month),
        (8..10, day),
        (11..13, of_day / 3600),
        (14..16, of_day / 60 % 60),
        (17..19, of_day % 60),
    ];
    for (places, mut value) in parts {
        for place in places.rev() {
            text[place] = b'0' + (value % 10) as u8;
            value /= 10;
        }
    }
    text
}

/// RFC 3339 in UTC with milliseconds, so long after 1970 began.
pub fn rfc_3339(time: Duration) -> String {
    let second = second_text(time.as_secs());
    format!("{}.{:03}Z", String::from_utf8_lossy(&second), time.subsec_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_utc_with_milliseconds() {
        let text = |seconds: u64, ms: u64| rfc_3339(Duration::from_millis(seconds * 1000 + ms));
        assert_eq!(text(0, 0), "1970-01-01T00:00:00.000Z");
        assert_eq!(text(951_782_400, 7), "2000-02-29T00:00:00.007Z");
        assert_eq!(text(1_735_689_599, 999), "2024-12-31T23:59:59.999Z");
        assert_eq!(text(4_102_444_800, 0), "2100-01-01T00:00:00.000Z");
    }

    #[test]
    fn every_day_of_four_centuries_is_the_one_that_it_is_counted_as() {
        for days in 0..4 * 36_525 {
            let (year, month, day) = date(days);
            assert_eq!(days_since_1970(year as i64, month as i64, day as i64), days as i64);
        }
    }
}
