//! How a report is told to other programs.

use serde_json::{Value, json};

use super::report::{Report, TaskReport, Verdict};
use cooperage::told::errors::{Error, Result};

/// Our own format; schema.json beside this file describes it. One chapter is an object, several are an array.
pub fn own(reports: &[Report]) -> Result<String> {
    match reports {
        [report] => pretty(report),
        _ => pretty(&reports),
    }
}

fn pretty(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string_pretty(value).map_err(|error| Error::new("write the report", error.to_string()))
}

/// What a task's report says, as plain text.
fn output(task: &TaskReport) -> String {
    let Some(failure) = &task.failure else { return task.message.clone() };
    let mut lines = vec![
        format!("ran       {}", failure.ran),
        format!("expected  {}", failure.expected),
        format!("saw       {}", failure.saw),
        format!("so        {}", failure.lesson),
    ];
    lines.extend(task.reread.iter().map(|reread| format!("reread    {reread}")));
    lines.join("\n")
}

/// Gradescope's results.json, as its autograder documentation has it. A test with all of its points is shown as
/// passed there, and 0 of 0 points are all: so what could not be graded here has no points, and says so.
pub fn gradescope(reports: &[Report]) -> Result<String> {
    let mut tests = Vec::new();
    for task in reports.iter().flat_map(|report| &report.tasks) {
        let name = format!("{} {}", task.id, task.title);
        let mut test = json!({
            "name": name,
            "number": task.id,
            "status": if task.verdict == Verdict::Pass { "passed" } else { "failed" },
            "output": output(task),
            "output_format": "text",
            "visibility": "visible",
        });
        if task.verdict.is_graded() {
            test["score"] = json!(task.points);
            test["max_score"] = json!(task.max_points);
        } else {
            test["name"] = json!(format!("{name} (not graded: {})", task.verdict.word()));
        }
        tests.push(test);
    }
    let mut said = Vec::new();
    for report in reports {
        let (chapter, score, max) = (report.chapter, report.score, report.max_score);
        let mut line = format!("chapter {chapter}: {score} of {max} points");
        if report.blocked_points > 0 {
            line.push_str(&format!("; {} more could not be graded here", report.blocked_points));
        }
        if let Some(error) = &report.build_error {
            line.push_str(&format!("\nIt could not be built. The first error:\n{error}"));
        }
        said.push(line);
    }
    pretty(&json!({
        "score": reports.iter().map(|report| report.score).sum::<u32>(),
        "output": said.join("\n"),
        "output_format": "text",
        "visibility": "visible",
        "tests": tests,
    }))
}

/// Classroom 50's result.json, `classroom50/result/v1`. Who and what is graded comes from the variables
/// that its runner sets; it puts its own `owner`, `assignment_type` and `datetime` in their place afterwards.
/// What a test has beyond the four required fields is kept by it: here, why the task is not done.
pub fn classroom50(reports: &[Report]) -> Result<String> {
    let variable = |name: &str, otherwise: &str| {
        let value = std::env::var(name).unwrap_or_default();
        if value.is_empty() { otherwise.to_string() } else { value }
    };
    let chapters: Vec<_> = reports.iter().map(|report| report.chapter.to_string()).collect();
    let assignment = format!("exercise-{}", chapters.join("-"));
    let commit = variable("COMMIT_URL", "unknown");
    let when = now();
    let tests: Vec<Value> = reports
        .iter()
        .flat_map(|report| &report.tasks)
        .filter(|task| task.verdict.is_graded())
        .map(|task| {
            json!({
                "test-name": format!("{} {}", task.id, task.title),
                "passed": task.verdict == Verdict::Pass,
                "score": task.points,
                "max-score": task.max_points,
                "output": output(task),
            })
        })
        .collect();
    pretty(&json!({
        "schema": "classroom50/result/v1",
        "classroom": variable("CLASSROOM", "unknown"),
        "assignment": variable("ASSIGNMENT", &assignment),
        "assignment_type": variable("ASSIGNMENT_TYPE", "individual"),
        "owner": variable("OWNER", &variable("USERNAME", &variable("GITHUB_ACTOR", "unknown"))),
        "submission": variable("SUBMISSION_TAG", "unknown"),
        "commit": commit.clone(),
        "release": variable("RELEASE_URL", "unknown"),
        "review": variable("REVIEW_URL", &commit),
        "datetime": when.clone(),
        "graded_at": when,
        "score": reports.iter().map(|report| report.score).sum::<u32>(),
        "max-score": reports.iter().map(|report| report.max_score).sum::<u32>(),
        "tests": tests,
    }))
}

/// The time in UTC, as ISO 8601 has it.
fn now() -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let seconds = since.map_or(0, |since| since.as_secs());
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The date so many days after 1970-01-01.
fn date(days: u64) -> (u64, u64, u64) {
    let (mut year, mut rest) = (1970, days);
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    loop {
        let length = if leap(year) { 366 } else { 365 };
        if rest < length {
            break;
        }
        rest -= length;
        year += 1;
    }
    let february = if leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if rest < length {
            break;
        }
        rest -= length;
        month += 1;
    }
    (year, month, rest + 1)
}

#[cfg(test)]
mod tests {
    use super::super::report::{Report, TaskReport, Verdict};
    use super::{date, gradescope};

    #[test]
    fn what_is_blocked_is_no_pass_at_gradescope() {
        let task = |id: &str, verdict, points| TaskReport {
            id: id.to_string(),
            title: "a task".to_string(),
            verdict,
            points,
            max_points: 5,
            message: String::new(),
            failure: None,
            reread: None,
        };
        let tasks = vec![task("6.1", Verdict::Blocked, 0), task("6.2", Verdict::Pass, 5)];
        let text = gradescope(&[Report::new(6, "cgroups", None, tasks)]).expect("JSON");
        let result: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(result["score"], 5, "{text}");
        assert_eq!(result["tests"][0]["status"], "failed", "{text}");
        assert!(result["tests"][0].get("score").is_none(), "{text}");
        assert!(
            result["tests"][0]["name"].as_str().is_some_and(|name| name.contains("not graded")),
            "{text}"
        );
        assert_eq!(result["tests"][1]["max_score"], 5, "{text}");
    }

    #[test]
    fn days_become_dates() {
        assert_eq!(date(0), (1970, 1, 1));
        assert_eq!(date(11_016), (2000, 2, 29));
        assert_eq!(date(20_819), (2027, 1, 1));
    }
}
