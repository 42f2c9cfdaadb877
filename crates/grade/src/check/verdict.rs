//! What came of a run, and what a student is told: with the bounds that every run has.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

/// How long one run of the submission may take.
pub const TIME: Duration = Duration::from_secs(10);
/// How much one run may print, in bytes.
pub const OUTPUT: usize = 256 * 1024;
/// How many processes a check may have at a time, where a cgroup can limit them.
pub const PROCESSES: u32 = 400;
/// How much each temporary directory of the lab holds, in bytes.
pub const DISK: u64 = 256 * 1024 * 1024;

/// What a student is told when a task is not done: four lines.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Failure {
    /// The command line that was run.
    pub ran: String,
    /// What should have come of it.
    pub expected: String,
    /// What came of it.
    pub saw: String,
    /// What the difference means: this line teaches.
    pub lesson: String,
}

impl Failure {
    /// A failure in four lines.
    pub fn new(
        ran: impl Into<String>,
        expected: impl Into<String>,
        saw: impl Into<String>,
        lesson: impl Into<String>,
    ) -> Failure {
        Failure { ran: ran.into(), expected: expected.into(), saw: saw.into(), lesson: lesson.into() }
    }
}

/// What keeps a check from judging: the machine's or the grader's fault, not the student's. It is passed on
/// as a panic, which the grader reports as an error of its own.
#[allow(clippy::panic)] // caught where the check was called
pub(crate) fn cannot(what: &str, error: impl std::fmt::Display) -> ! {
    panic!("can't {what}: {error}")
}

/// One run of the submission that has ended.
#[derive(Debug, Clone)]
pub struct Run {
    /// The status as a shell shows it: 128+N if signal N killed it.
    pub status: i32,
    /// What it printed to stdout.
    pub out: String,
    /// What it printed to stderr.
    pub err: String,
    /// The command line, as it is shown to the student.
    pub command: String,
}

impl Run {
    /// A failure that says what was run.
    pub fn fail(
        &self,
        expected: impl Into<String>,
        saw: impl Into<String>,
        lesson: impl Into<String>,
    ) -> Failure {
        Failure::new(&self.command, expected, saw, lesson)
    }

    /// All that it printed, with its status: for the line "saw". Long output is shortened.
    pub fn said(&self) -> String {
        let mut parts = vec![format!("status {}", self.status)];
        for (name, text) in [("stdout", &self.out), ("stderr", &self.err)] {
            if !text.trim().is_empty() {
                parts.push(format!("{name}: {}", shorten(text)));
            }
        }
        parts.join(", ")
    }

    /// Fails unless the status is 0 and nothing was written to stderr by the runtime (cooperage: or a panic).
    pub fn success(&self, lesson: impl Into<String>) -> Result<(), Failure> {
        if self.status == 0 {
            return Ok(());
        }
        Err(self.fail("the command runs and ends with status 0", self.said(), lesson))
    }
}

/// The text on one line, and not too long a line.
pub fn shorten(text: &str) -> String {
    let line: Vec<_> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    let line = line.join(" | ");
    match line.char_indices().nth(300) {
        Some((end, _)) => format!("{} ...", &line[..end]),
        None => line,
    }
}

/// A status as a shell shows it.
pub fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}
