//! How a report is shown to a person.

use std::fmt::Write;

use colored::{ColoredString, Colorize};

use super::report::{Report, TaskReport, Verdict};
use super::tasks::Exercise;

const WIDTH: usize = 78;

/// A chapter's report.
pub fn report(report: &Report) -> String {
    let mut text = String::new();
    let title = format!("Exercise {}: {}", report.chapter, report.title);
    let points = format!("{} of {} points", report.score, report.max_score);
    let _ = writeln!(text, "{}\n", between(&title, &points).bold());
    if let Some(error) = &report.build_error {
        let _ = writeln!(text, "  It could not be built. The first error:\n");
        for line in error.lines() {
            let _ = writeln!(text, "    {line}");
        }
        text.push('\n');
    }
    for task in &report.tasks {
        self::task(&mut text, task, report.build_error.is_some());
    }
    if report.blocked_points > 0 {
        let points = report.blocked_points;
        let _ = writeln!(text, "\n  {points} points could not be graded here and are left out of the total.");
    }
    text
}

fn coloured(verdict: Verdict) -> ColoredString {
    let word = format!("{:<7}", verdict.word());
    match verdict {
        Verdict::Pass => word.green(),
        Verdict::Fail => word.red().bold(),
        Verdict::Blocked | Verdict::Error => word.yellow(),
        Verdict::Needs | Verdict::NotStarted => word.dimmed(),
    }
}

fn task(text: &mut String, task: &TaskReport, is_broken: bool) {
    let verdict = coloured(task.verdict);
    let brief = match task.verdict {
        Verdict::Pass | Verdict::Fail => format!("{}/{}", task.points, task.max_points),
        Verdict::Needs | Verdict::NotStarted => task.message.clone(),
        Verdict::Blocked | Verdict::Error => format!("-/{}", task.max_points),
    };
    let left = format!("{}  {}", task.id, task.title);
    let room = WIDTH.saturating_sub(10);
    let gap = room.saturating_sub(left.chars().count() + brief.chars().count()).max(2);
    let _ = writeln!(text, "  {verdict} {left}{}{brief}", " ".repeat(gap));
    if let Some(failure) = &task.failure {
        for (name, value) in [("ran", &failure.ran), ("expected", &failure.expected), ("saw", &failure.saw)] {
            field(text, name, value);
        }
        field(text, "so", &failure.lesson);
        if let Some(reread) = &task.reread {
            field(text, "reread", reread);
        }
    } else if matches!(task.verdict, Verdict::Blocked | Verdict::Error)
        || task.verdict == Verdict::Fail && !is_broken
    {
        field(text, "why", &task.message);
    }
}

/// A name and a text, broken where the line is full.
fn field(text: &mut String, name: &str, value: &str) {
    const INDENT: usize = 26;
    let mut lines: Vec<String> = vec![String::new()];
    for word in value.split_whitespace() {
        let last = lines.len() - 1;
        let length = lines[last].chars().count();
        if length > 0 && INDENT + length + 1 + word.chars().count() > 110 {
            lines.push(word.to_string());
        } else {
            if length > 0 {
                lines[last].push(' ');
            }
            lines[last].push_str(word);
        }
    }
    for (number, line) in lines.iter().enumerate() {
        let name = if number == 0 { name } else { "" };
        let _ = writeln!(text, "{}{:<10}{line}", " ".repeat(16), name);
    }
}

fn between(left: &str, right: &str) -> String {
    let gap = WIDTH.saturating_sub(left.chars().count() + right.chars().count()).max(2);
    format!("{left}{}{right}", " ".repeat(gap))
}

/// What to do next, for the student's own exercises.
pub fn next(reports: &[Report], exercises: &[Exercise]) -> String {
    let tasks = || reports.iter().flat_map(|report| &report.tasks);
    if let Some(report) = reports.iter().find(|report| report.build_error.is_some()) {
        return format!("next: mend the error above, then cargo run --bin grade -- {}", report.chapter);
    }
    if let Some(task) = tasks().find(|task| task.verdict == Verdict::Fail) {
        return format!("next: cargo run --bin grade -- --hint {}", task.id);
    }
    let begin = tasks().find(|task| task.verdict == Verdict::NotStarted);
    let found = begin
        .and_then(|task| exercises.iter().find_map(|exercise| Some((exercise, exercise.task(&task.id)?))));
    match found {
        Some((exercise, task)) => {
            let place = exercise.directory.file_name().unwrap_or_default().to_string_lossy();
            let (id, minutes) = (&task.id, task.minutes);
            format!(
                "next: task {id} in chapters/{place}/exercise.rs, about {minutes} minutes; look for todo!(\"task {id}\")"
            )
        }
        None => "next: all that can be graded here is done".to_string(),
    }
}

/// One line for a chapter, with a bar.
pub fn progress(report: &Report) -> String {
    const BAR: u32 = 20;
    let filled = (report.score * BAR).checked_div(report.max_score).unwrap_or(0);
    let bar = format!("{}{}", "#".repeat(filled as usize), ".".repeat((BAR - filled) as usize));
    let note = match report {
        Report { build_error: Some(_), .. } => "could not be built".to_string(),
        _ if report.max_score == 0 => "blocked".to_string(),
        _ if report.is_untouched() => "not started".to_string(),
        _ if report.is_done() => "done".to_string(),
        _ => {
            let failed = report.tasks.iter().filter(|task| task.verdict == Verdict::Fail);
            failed.map(|task| format!("{} fails", task.id)).collect::<Vec<_>>().join(", ")
        }
    };
    let blocked = match report.blocked_points {
        0 => String::new(),
        points => format!("  ({points} blocked)"),
    };
    let line = format!(
        "  {}  {:<30} [{bar}] {:>2}/{:<2}  {note}{blocked}",
        report.chapter, report.title, report.score, report.max_score
    );
    line.trim_end().to_string()
}
