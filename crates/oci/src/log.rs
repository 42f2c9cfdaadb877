//! What went wrong: on stderr, and in the file that a client reads it from.

use std::fs::OpenOptions;
use std::io::{IsTerminal, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cooperage::told::errors::Error;
use serde_json::json;

use crate::cli::{Global, LogFormat};

/// Tells of an error.
pub fn error(global: &Global, error: &Error) {
    // A client shows its user one line.
    match std::io::stderr().is_terminal() {
        true => eprintln!("chapter10: {error}"),
        false => eprintln!("chapter10: {}", one_line(error)),
    }
    note(global, "error", &one_line(error));
}

/// Writes a line to the log, if there is one. Nobody can be told that it did not work.
pub fn note(global: &Global, level: &str, text: &str) {
    let Some(file) = &global.log else { return };
    let time = rfc3339(SystemTime::now());
    let line = match global.log_format {
        LogFormat::Json => json!({"level": level, "msg": text, "time": time}).to_string(),
        LogFormat::Text => format!("time=\"{time}\" level={level} msg={text:?}"),
    };
    // One write, because several runtimes may write to one file.
    let _ = OpenOptions::new()
        .append(true)
        .create(true)
        .open(file)
        .and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
}

/// An error has lines for a reader; a log has one for each.
fn one_line(error: &Error) -> String {
    let text = error.to_string();
    text.lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect::<Vec<_>>()
        .join("; ")
}

/// A time as RFC 3339 has it, in UTC.
pub fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:09}Z", since.subsec_nanos())
}

/// The date so many days after 1 January 1970. Years begin in March here, so that the day that comes every four years is
/// the last one of a year.
fn date(days: u64) -> (u64, u64, u64) {
    const DAYS_OF_400_YEARS: u64 = 146_097;
    let days = days + 719_468; // since 1 March of the year 0
    let (era, day) = (days / DAYS_OF_400_YEARS, days % DAYS_OF_400_YEARS);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153; // 0 is March
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right() {
        for (days, date) in [
            (0, (1970, 1, 1)),
            (59, (1970, 3, 1)),
            (11_016, (2000, 2, 29)),
            (11_017, (2000, 3, 1)),
            (19_782, (2024, 2, 29)),
            (20_453, (2025, 12, 31)),
            (47_541, (2100, 3, 1)),
        ] {
            assert_eq!(super::date(days), date, "{days}");
        }
        let time = UNIX_EPOCH + Duration::new(1_764_107_755, 5);
        assert_eq!(rfc3339(time), "2025-11-25T21:55:55.000000005Z");
    }

    #[test]
    fn an_error_is_one_line() {
        let error = Error::new("make it", "it is there").remedy("remove it");
        assert_eq!(one_line(&error), "could not make it; because it is there; remedy remove it");
    }
}
