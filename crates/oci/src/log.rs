//! What went wrong: on stderr, and in the file that a client reads it from.

use std::fs::OpenOptions;
use std::io::{IsTerminal, Write};
use std::time::SystemTime;

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
    humantime::format_rfc3339_nanos(time).to_string()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn dates_are_right() {
        for (days, date) in [
            (0, "1970-01-01"),
            (59, "1970-03-01"),
            (11_016, "2000-02-29"),
            (11_017, "2000-03-01"),
            (19_782, "2024-02-29"),
            (20_453, "2025-12-31"),
            (47_541, "2100-03-01"),
        ] {
            let time = UNIX_EPOCH + Duration::from_secs(days * 86_400);
            assert_eq!(rfc3339(time), format!("{date}T00:00:00.000000000Z"), "{days}");
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
