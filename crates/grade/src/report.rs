//! What came of grading: verdicts and points.

use serde::{Deserialize, Serialize};

use super::check::Failure;

/// What the grader says of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Done.
    Pass,
    /// Not done, or not right.
    Fail,
    /// A task that it builds on is not done.
    Needs,
    /// Still a `todo!()`.
    NotStarted,
    /// This machine can't run the check. Its points are left out of the total.
    Blocked,
    /// The grader itself went wrong. Its points are left out of the total.
    Error,
}

impl Verdict {
    /// As it is printed.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Pass => "pass",
            Verdict::Fail => "FAIL",
            Verdict::Needs => "needs",
            Verdict::NotStarted => "blank",
            Verdict::Blocked => "blocked",
            Verdict::Error => "error",
        }
    }

    /// Does it count?
    pub fn is_graded(self) -> bool {
        !matches!(self, Verdict::Blocked | Verdict::Error)
    }
}

/// One task's result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskReport {
    /// Such as "5.2".
    pub id: String,
    /// What it is called.
    pub title: String,
    /// What the grader says.
    pub verdict: Verdict,
    /// What was earned.
    pub points: u32,
    /// What it is worth.
    pub max_points: u32,
    /// Why, in words; empty for a pass.
    pub message: String,
    /// What was run, expected and seen, if it failed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub failure: Option<Failure>,
    /// What to reread, if it failed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reread: Option<String>,
}

/// One chapter's result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The chapter.
    pub chapter: u8,
    /// What it is called.
    pub title: String,
    /// The points that were earned.
    pub score: u32,
    /// The points that could be earned here: without those of blocked tasks.
    pub max_score: u32,
    /// The points of the tasks that could not be graded.
    pub blocked_points: u32,
    /// The compiler's first error, if the program could not be built.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub build_error: Option<String>,
    /// The tasks, in order.
    pub tasks: Vec<TaskReport>,
}

impl Report {
    /// Adds up.
    pub fn new(chapter: u8, title: &str, build_error: Option<String>, tasks: Vec<TaskReport>) -> Report {
        let sum = |wanted: fn(&TaskReport) -> bool, points: fn(&TaskReport) -> u32| {
            tasks.iter().filter(|task| wanted(task)).map(points).sum()
        };
        Report {
            chapter,
            title: title.to_string(),
            score: sum(|_| true, |task| task.points),
            max_score: sum(|task| task.verdict.is_graded(), |task| task.max_points),
            blocked_points: sum(|task| !task.verdict.is_graded(), |task| task.max_points),
            build_error,
            tasks,
        }
    }

    /// Is nothing of it begun yet?
    pub fn is_untouched(&self) -> bool {
        self.tasks.iter().all(|task| matches!(task.verdict, Verdict::NotStarted | Verdict::Blocked))
    }

    /// Has it all passed that could be graded?
    pub fn is_done(&self) -> bool {
        let ok = |task: &TaskReport| matches!(task.verdict, Verdict::Pass | Verdict::Blocked);
        self.build_error.is_none() && self.tasks.iter().all(ok)
    }
}
