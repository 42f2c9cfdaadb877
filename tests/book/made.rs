//! Files that pages include and that are made from the sources: each is a snapshot, so that it can be read in a review.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use cooperage::workshop::chapters;
use grade::tasks::{Exercise, Task};

use super::root;
use crate::support::is_snapshot;

/// Compares a file with what it should be.
fn is_made(name: &str, text: &str) {
    let compare = || is_snapshot(name, &[], text);
    if std::panic::catch_unwind(compare).is_err() {
        panic!(
            "{name}.snap is not what the sources say: `INSTA_UPDATE=always cargo test --test book made::` writes it"
        );
    }
}

fn read_main(chapter: u8) -> String {
    let directory = chapters::directory(root(), chapter).expect("the chapter exists");
    fs::read_to_string(directory.join("main.rs")).expect("readable")
}

fn main_name(chapter: u8) -> String {
    let directory = chapters::directory(root(), chapter).expect("the chapter exists");
    directory.strip_prefix(root()).expect("below it").join("main.rs").display().to_string()
}

/// `diff/05`: what chapter 5's main.rs has that chapter 4's has not.
pub fn difference(chapter: u8) {
    let (before, after) = (read_main(chapter - 1), read_main(chapter));
    let diff = similar::TextDiff::from_lines(&before, &after);
    let mut diff = diff.unified_diff();
    let text = diff.context_radius(3).header(&main_name(chapter - 1), &main_name(chapter)).to_string();
    is_made(&format!("diff/{chapter:02}"), &text);
}

/// `exercises/05`: the tasks, each with what exercise.toml and its doc comment say.
pub fn exercises(chapter: u8) {
    let exercise = Exercise::read(root(), chapter).unwrap_or_else(|error| panic!("{error}"));
    let source = fs::read_to_string(exercise.directory.join("exercise.rs")).expect("readable");
    let points: u32 = exercise.tasks.iter().map(|task| task.points).sum();
    let minutes: u32 = exercise.tasks.iter().map(|task| task.minutes).sum();
    let mut text = format!(
        "`{}` has {} tasks: {points} points, about {minutes} minutes.\n",
        main_name(chapter).replace("main.rs", "exercise.rs"),
        exercise.tasks.len(),
    );
    for task in &exercise.tasks {
        let _ = write!(text, "\n{}", task_text(task, &source));
    }
    is_made(&format!("exercises/{chapter:02}"), &text);
}

fn task_text(task: &Task, source: &str) -> String {
    let begin = format!("/// Task {} ", task.id);
    let mut lines = source.lines().skip_while(|line| !line.starts_with(&begin));
    let first = lines.next().unwrap_or_else(|| panic!("exercise.rs has no {begin:?}"));
    let title = first.split_once("): ").map_or(first, |(_, title)| title).trim_end_matches('.');
    let doc: Vec<String> = lines
        .take_while(|line| line.starts_with("///"))
        .map(|line| line.trim_start_matches('/').trim().replace("[`", "`").replace("`]", "`"))
        .collect();
    let stars = "★".repeat(task.stars.into()) + &"☆".repeat(usize::from(3 - task.stars.min(3)));
    let mut needs = String::new();
    if !task.needs.is_empty() {
        needs = format!(", needs {}", task.needs.join(" and "));
    }
    let mut title = title.to_string();
    if let Some(first) = title.get(..1) {
        title.replace_range(..1, &first.to_uppercase());
    }
    format!(
        "### Task {}: {title}\n\n{stars} {} points, {} minutes{needs}\n\n{}\n",
        task.id,
        task.points,
        task.minutes,
        doc.join("\n").trim()
    )
}

/// One row of the table of system calls.
#[derive(Default)]
struct Row {
    chapter: Option<u8>,
    why: String,
}

/// `pages/system-calls`: every system call that the chapters make through the narration. Chapter and reason are those of
/// the narration in which it is first told, and these are snapshots that are held against strace(1).
pub fn system_calls() {
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    for chapter in chapters::containers() {
        for who in ["root", "user"] {
            let file = root().join(format!("tests/snapshots/explain/{chapter:02}-{who}.snap"));
            let text =
                fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            for line in text.lines().filter(|line| line.starts_with('[')) {
                let told = line.split_once(']').map_or("", |(_, told)| told).trim_start();
                let Some((name, _)) = told.split_once('(').filter(|(name, _)| is_name(name)) else {
                    continue;
                };
                let why = told.rsplit("  ").next().unwrap_or_default().trim();
                rows.entry(name.to_string())
                    .or_insert_with(|| Row { chapter: Some(chapter), why: why.into() });
            }
        }
    }
    // Told where cgroups are of version 2 alone; its function is in a file of chapter 1's.
    let why = "make the process that becomes the container, in its cgroup from the start (since Linux 5.7)";
    rows.entry("clone3".into()).or_insert_with(|| Row { chapter: Some(6), why: why.into() });
    let why = "let the container's root make cgroups below its own";
    rows.entry("chown".into()).or_insert_with(|| Row { chapter: Some(8), why: why.into() });
    // Those that only some options need are told in no snapshot. Their files say which chapter they are of.
    let wrappers = fs::read_to_string(root().join("src/container/sys.rs")).expect("readable");
    for (name, function, doc) in wrappers_of(&wrappers) {
        let row = first_use(&function, doc);
        // A function that waits for a later chapter is in the table of that.
        if row.chapter.is_none_or(|chapter| chapters::containers().contains(&chapter)) {
            rows.entry(name).or_insert(row);
        }
    }
    let mut text = String::from("| system call | chapter | what it is first made for |\n|---|---|---|\n");
    for (name, row) in &rows {
        let chapter = row.chapter.unwrap_or_else(|| panic!("no chapter is known that makes {name}"));
        let page = format!("https://man7.org/linux/man-pages/man2/{name}.2.html");
        let _ = writeln!(text, "| [{name}(2)]({page}) | {chapter} | {} |", row.why);
    }
    is_made("pages/system-calls", &text);
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// The system call of each function in sys.rs that has one, the function's name, and what its comment says.
fn wrappers_of(source: &str) -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    let mut doc = String::new();
    for line in source.lines() {
        if let Some(comment) = line.strip_prefix("///") {
            doc.push_str(comment);
        } else {
            if let Some(rest) = line.strip_prefix("pub unsafe fn ").or(line.strip_prefix("pub fn "))
                && let Some((call, said)) = doc.trim().split_once("(2)")
                && is_name(call)
            {
                let function = rest.split(['(', '<']).next().unwrap_or_default().to_string();
                let said = said.trim_start_matches([':', ' ']).split(". ").next().unwrap_or_default();
                found.push((call.to_string(), function, said.trim_end_matches('.').to_string()));
            }
            doc.clear();
        }
    }
    found
}

/// The first chapter of a file in src/container/ that calls the function, as the file's first line says; and the reason
/// that it gives, or else what the function's own comment says.
fn first_use(function: &str, doc: String) -> Row {
    let mut found = Row { chapter: None, why: doc };
    let call = format!("sys::{function}(");
    for path in super::files_below(&root().join("src/container"), "rs") {
        let text = fs::read_to_string(&path).expect("readable");
        let Some((_, after)) = text.split_once(&call) else { continue };
        let first = text.lines().next().unwrap_or_default();
        let number = first.strip_prefix("//! Chapter").map(|rest| rest.trim_start_matches(['s', ' ']));
        let chapter = number.and_then(|rest| rest.get(..1)).and_then(|digit| digit.parse::<u8>().ok());
        let Some(chapter) = chapter.filter(|chapter| found.chapter.is_none_or(|other| *chapter < other))
        else {
            continue;
        };
        found.chapter = Some(chapter);
        if let Some((why, _)) = after.trim_start().strip_prefix('"').and_then(|rest| rest.split_once('"')) {
            found.why = why.to_string();
        }
    }
    found
}
