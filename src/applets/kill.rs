//! kill: sends a signal. A shell has one of its own; this is for a container whose command is `kill`.

use crate::{Done, Failure, print, sys, words};

/// Signals 1 to 31, in their order, on all machines that this crate knows.
const NAMES: &str = "HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP TSTP \
                     TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS";

/// `kill [-s SIGNAL | -SIGNAL] PID...` and `kill -l`
pub fn main(arguments: &[String]) -> Done {
    const USAGE: &str = "kill [-s SIGNAL | -SIGNAL] PID..., or kill -l";
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (signal, targets) = match words.as_slice() {
        ["-l"] => {
            print(NAMES);
            return Ok(0);
        }
        ["-s", name, targets @ ..] => (*name, targets),
        ["--", targets @ ..] => ("TERM", targets),
        [option, targets @ ..] if option.len() > 1 && option.starts_with('-') => (&option[1..], targets),
        targets => ("TERM", targets),
    };
    let number = signal_number(signal).ok_or_else(|| format!("bad signal name '{signal}'"))?;
    let targets = if targets.first() == Some(&"--") { &targets[1..] } else { targets };
    if targets.is_empty() {
        return Err(Failure::usage(USAGE));
    }
    let mut status = 0;
    for target in targets {
        let sent = match target.parse() {
            Ok(pid) => sys::kill(pid, number)
                .map_err(|error| format!("can't kill pid {pid}: {}", self::words(&error))),
            Err(_) => Err(format!("invalid number '{target}'")),
        };
        if let Err(message) = sent {
            eprintln!("kill: {message}");
            status = 1;
        }
    }
    Ok(status)
}

fn signal_number(name: &str) -> Option<i32> {
    if let Ok(number) = name.parse() {
        return (0..=64).contains(&number).then_some(number);
    }
    let name = name.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    NAMES.split_whitespace().position(|known| known == name).map(|at| at as i32 + 1)
}

#[cfg(test)]
mod tests {
    use super::signal_number;

    #[test]
    fn signals_have_names_and_numbers() {
        for (name, number) in [("KILL", Some(9)), ("sigterm", Some(15)), ("SYS", Some(31)), ("0", Some(0))] {
            assert_eq!(signal_number(name), number, "{name}");
        }
        assert_eq!((signal_number("NONE"), signal_number("65")), (None, None));
    }
}
