//! The exercises and their grader: answers pass, wrong answers fail where they are wrong, nothing harms.
//!
//! The grader is run as its users run it, and judged by the JSON that it prints.

#![allow(clippy::panic)] // that is how a test fails

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output, Stdio};

use cooperage::workshop::{chapters, doctor};
use grade::compile;
use grade::tasks::{Exercise, Mutant};
use libtest_mimic::{Arguments, Failed, Trial};
use nix::sys::signal::{SigHandler, Signal, signal};
use serde_json::Value;
use support::told::{self, LeftOut};
use support::{Lack, Machine};

type Outcome = Result<(), Failed>;
type Run = Box<dyn FnOnce() -> Outcome + Send>;

/// The tasks that chapterNN itself does: its command line has their options, and the behaviour is the
/// chapter's own.
const CHAPTERS: &[(u8, &[&str])] = &[
    (1, &["1.1", "1.2"]),
    (2, &["2.1", "2.2", "2.4"]),
    (3, &["3.1", "3.2", "3.3"]),
    (4, &["4.1", "4.2"]),
    (5, &["5.1", "5.2", "5.3"]),
    (6, &["6.1", "6.2", "6.3"]),
    (7, &["7.1", "7.2", "7.3", "7.4"]),
    (10, &["10.1", "10.2", "10.3", "10.4"]),
];

fn root() -> &'static Path {
    support::repository()
}

fn program(name: &str) -> PathBuf {
    support::built().join(name)
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    if arguments.list {
        let all = trials(&BTreeMap::new(), |_| None, &mut LeftOut::default());
        return libtest_mimic::run(&arguments, all).exit_code();
    }
    let mut machine = Machine::default();
    let mut left_out = LeftOut::default();
    if let Some(lack) = machine.lacks_feature("lab") {
        let all = trials(&BTreeMap::new(), |_| Some(lack.clone()), &mut left_out);
        return told::run(&arguments, all, &left_out, None);
    }
    // As under nohup(1), because graders are run so: what is judged must not be judged by the grader's own signals.
    // SAFETY: no handler is installed.
    let ignored = unsafe { signal(Signal::SIGHUP, SigHandler::SigIgn) };
    ignored.expect("SIGHUP can be ignored");
    let built = build();
    let all = trials(&built, |need| need.and_then(|need| machine.lacks_feature(need)), &mut left_out);
    told::run(&arguments, all, &left_out, machine.lab)
}

/// The exercises of all chapters.
fn exercises() -> Vec<Exercise> {
    let has = |chapter: &u8| {
        chapters::directory(root(), *chapter).is_ok_and(|directory| directory.join("exercise.toml").is_file())
    };
    let read = |chapter| Exercise::read(root(), chapter).unwrap_or_else(|error| panic!("{error}"));
    chapters::numbers().filter(has).map(read).collect()
}

fn mutant_name(chapter: u8, mutant: &Mutant) -> String {
    format!("mutant{chapter:02}-{}", mutant.name)
}

/// Builds all wrong answers and all other programs in Rust at once.
fn build() -> BTreeMap<String, compile::Built> {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mutants");
    let mut files = Vec::new();
    for exercise in exercises() {
        let solution = exercise.directory.join("solution.rs");
        let text = fs::read_to_string(&solution).expect("readable");
        for mutant in &exercise.mutants {
            let name = mutant_name(exercise.chapter, mutant);
            let file = place.join(format!("{name}.rs"));
            let mutated = text.replacen(&mutant.find, &mutant.replace, 1);
            support::write_if_other(&file, &format!("#![allow(warnings)]\n{mutated}"));
            files.push((name, file));
        }
    }
    for path in programs() {
        if path.extension().is_some_and(|extension| extension == "rs") {
            files.push((format!("program-{}", path.file_stem().unwrap_or_default().to_string_lossy()), path));
        }
    }
    if files.is_empty() {
        return BTreeMap::new();
    }
    // Of which nothing is to be seen; the first time it takes a minute or two.
    eprintln!("\nbuilding what is to be graded: {} wrong answers and other programs", files.len());
    compile::foreign(root(), &place, &files).unwrap_or_else(|error| panic!("{error}"))
}

/// The right but different programs.
fn programs() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(root().join("tests/programs"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(|c: char| c.is_ascii_digit()))
        })
        .collect();
    found.sort();
    found
}

/// All trials. `lacks` says what this machine lacks of a need: of the first one without a name, which all of them have.
fn trials(
    built: &BTreeMap<String, compile::Built>,
    mut lacks: impl FnMut(Option<&str>) -> Option<Lack>,
    left_out: &mut LeftOut,
) -> Vec<Trial> {
    let everywhere = lacks(None);
    let mut trials: Vec<(String, Option<Lack>, Run)> = Vec::new();
    let mut add = |name: String, lack: Option<Lack>, trial: Run| {
        trials.push((name, lack.or_else(|| everywhere.clone()), trial));
    };
    for (name, trial) in [
        ("every_chapter_has_exercises", every_chapter_has_exercises as fn() -> Outcome),
        ("exercises_are_cut_from_the_solutions", exercises_are_cut_from_the_solutions),
        ("untouched_exercises_are_not_started", untouched_exercises_are_not_started),
        ("json_is_as_its_schema_says", json_is_as_its_schema_says),
        ("gradescope_and_classroom50", gradescope_and_classroom50),
        ("hints_and_explanations", hints_and_explanations),
        ("wrong_command_lines", wrong_command_lines),
        ("a_class_is_graded_and_resumed", a_class_is_graded_and_resumed),
        ("students_edition_builds_and_grades", students_edition_builds_and_grades),
        ("hostile_programs_are_held", hostile_programs_are_held),
        ("the_crate_is_out_of_sight", the_crate_is_out_of_sight),
        ("a_programs_directory_is_there", a_programs_directory_is_there),
    ] {
        add(name.to_string(), None, Box::new(trial));
    }
    // Nothing else can hold one.
    add("a_fork_bomb_is_held".to_string(), lacks(Some("cgroup-pids")), Box::new(a_fork_bomb_is_held));
    for exercise in exercises() {
        let chapter = exercise.chapter;
        // Where its tasks can't be graded, nothing can be lost.
        let lack = needs_of_chapter(chapter).into_iter().find_map(|need| lacks(Some(need)));
        let one = exercise.clone();
        add(format!("points_{chapter:02}"), None, Box::new(move || points(&one)));
        add(format!("solution_{chapter:02}"), None, Box::new(move || solution(chapter)));
        add(format!("chapter_{chapter:02}"), None, Box::new(move || chapters_own(chapter)));
        for mutant in exercise.mutants.clone() {
            let name = mutant_name(chapter, &mutant);
            let program = built.get(&name).cloned();
            let exercise = exercise.clone();
            add(name, lack.clone(), Box::new(move || wrong_answer(&exercise, &mutant, program)));
        }
    }
    for path in programs() {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let program = match built.get(&format!("program-{stem}")) {
            Some(built) => built.clone(),
            None => Ok(path.clone()),
        };
        let lack = needs_of(&path).iter().find_map(|need| lacks(Some(need)));
        add(format!("program_{stem}"), lack, Box::new(move || other_program(&path, program)));
    }
    trials.into_iter().map(|(name, lack, trial)| support::trial(name, lack, trial, left_out)).collect()
}

fn every_chapter_has_exercises() -> Outcome {
    must(exercises().len() == chapters::CHAPTERS.len(), "an exercise for each")
}

/// What a chapter cannot do without.
fn needs_of_chapter(number: u8) -> Vec<&'static str> {
    let chapter = chapters::CHAPTERS.iter().find(|chapter| chapter.number == number);
    let features = doctor::FEATURES.iter().filter(|feature| feature.required());
    features
        .map(|feature| feature.name)
        .filter(|name| chapter.is_some_and(|chapter| chapter.needs(name)))
        .collect()
}

/// What a program needs of the machine: it says so in its first lines, as in `# needs: ip nft`.
fn needs_of(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let named = text.lines().take(10).find_map(|line| line.strip_prefix("# needs: ")).unwrap_or_default();
    let python = text.starts_with("#!/usr/bin/env python3").then_some("python3");
    named.split_whitespace().chain(python).map(|program| format!("program-{program}")).collect()
}

fn grade(args: &[&str]) -> Output {
    Command::new(program("grade"))
        .args(args)
        .current_dir(root())
        .env("COOPERAGE_GRADE_SEED", "7")
        .stdin(Stdio::null())
        .output()
        .expect("the grader starts")
}

/// The report of grading a program.
fn graded(chapter: u8, program: &Path) -> Result<Value, Failed> {
    let path = program.to_string_lossy();
    json(&grade(&[&chapter.to_string(), "--program", &path, "--format", "json"]))
}

fn json(output: &Output) -> Result<Value, Failed> {
    serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("{error}: {}", String::from_utf8_lossy(&output.stderr)).into())
}

/// The verdicts by task. What is blocked must not be where everything is required.
fn verdicts(report: &Value) -> Result<BTreeMap<String, String>, Failed> {
    let mut all = BTreeMap::new();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    for task in report["tasks"].as_array().into_iter().flatten() {
        let verdict = text(&task["verdict"]);
        let required = support::is_required("all that a task needs");
        if verdict == "error" || verdict == "blocked" && required {
            return Err(format!("{} {verdict}: {}", task["id"], task["message"]).into());
        }
        all.insert(text(&task["id"]), verdict);
    }
    if all.is_empty() {
        return Err(format!("no tasks: {report:#}").into());
    }
    Ok(all)
}

fn must(is_so: bool, what: impl Into<String>) -> Outcome {
    if is_so { Ok(()) } else { Err(what.into().into()) }
}

fn points(exercise: &Exercise) -> Outcome {
    let sum: u32 = exercise.tasks.iter().map(|task| task.points).sum();
    must(sum == 20, format!("{sum} points"))?;
    must((3..=4).contains(&exercise.tasks.len()), "3 or 4 tasks")?;
    must(exercise.mutants.len() >= 5, format!("{} mutants", exercise.mutants.len()))?;
    for task in &exercise.tasks {
        must(task.hints.len() == 3, format!("{}: three hints", task.id))?;
        must((1..=3).contains(&task.stars), format!("{}: stars", task.id))?;
    }
    let text = fs::read_to_string(exercise.directory.join("solution.rs")).expect("readable");
    for mutant in &exercise.mutants {
        let count = text.matches(&mutant.find).count();
        must(count == 1, format!("the text of {} occurs {count} times", mutant.name))?;
    }
    Ok(())
}

fn solution(chapter: u8) -> Outcome {
    let report = graded(chapter, &program(&format!("solution{chapter:02}")))?;
    let all = verdicts(&report)?;
    let good = all.values().all(|verdict| verdict == "pass" || verdict == "blocked");
    must(good && report["score"] == report["max_score"], format!("{report:#}"))
}

fn chapters_own(chapter: u8) -> Outcome {
    let report = graded(chapter, &program(&format!("chapter{chapter:02}")))?;
    let all = verdicts(&report)?;
    for (_, ids) in CHAPTERS.iter().filter(|(number, _)| *number == chapter) {
        for id in *ids {
            let verdict = all.get(*id).map(String::as_str);
            must(matches!(verdict, Some("pass" | "blocked")), format!("{id} is {verdict:?}: {report:#}"))?;
        }
    }
    Ok(())
}

fn wrong_answer(exercise: &Exercise, mutant: &Mutant, program: Option<compile::Built>) -> Outcome {
    let program = program.ok_or("it was not built")??;
    let report = graded(exercise.chapter, &program)?;
    let all = verdicts(&report)?;
    let lost: BTreeSet<&String> = all
        .iter()
        .filter(|(_, verdict)| *verdict != "pass" && *verdict != "blocked")
        .map(|(id, _)| id)
        .collect();
    let named: BTreeSet<&String> =
        mutant.loses.iter().filter(|id| all.get(*id).is_none_or(|verdict| verdict != "blocked")).collect();
    if lost != named {
        return Err(format!("it loses {lost:?} and names {named:?}: {report:#}").into());
    }
    let file = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let text = told(&report, &file, &format!("exercise{:02}", exercise.chapter));
    // A cable that leads nowhere and a relay that gives up: which of the two is noticed first differs.
    // Each cat says in its own way that there is no file. In a user namespace a mount shows whose it is.
    let filters = [
        (r"nothing for N s|it was closed", "no answer"),
        (r"cat: can't open '(\S+)'", "cat: $1"),
        (r"(mode=N),uid=N,gid=N", "$1"),
    ];
    let name = format!("mutants/{:02}-{}", exercise.chapter, mutant.name);
    std::panic::catch_unwind(|| support::is_snapshot(&name, &filters, &text))
        .map_err(|_| Failed::from(format!("another text:\n{text}")))
}

/// What a student is told, without what differs from run to run.
fn told(report: &Value, name: &str, shown: &str) -> String {
    let mut text = String::new();
    for task in report["tasks"].as_array().into_iter().flatten().filter(|task| task["verdict"] != "pass") {
        let word = |value: &Value| value.as_str().unwrap_or_default().to_string();
        let steady =
            |value: &Value| steady(&word(value).replace(name, "the-exercise")).replace("the-exercise", shown);
        text.push_str(&format!("{} {}\n", word(&task["id"]), word(&task["verdict"])));
        if task["failure"].is_object() {
            for (name, key) in [("ran", "ran"), ("expected", "expected"), ("saw", "saw"), ("so", "lesson")] {
                text.push_str(&format!("  {name:<9} {}\n", steady(&task["failure"][key])));
            }
            text.push_str(&format!("  reread    {}\n", word(&task["reread"])));
        } else {
            text.push_str(&format!("  {}\n", word(&task["message"])));
        }
    }
    text
}

/// Numbers of processes, mounts, addresses and times differ. Those of manual sections do not.
fn steady(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let kept = ["127.0.0.1", "(1)", "(2)", "(3)", "(5)", "(7)", "(8)"]
            .iter()
            .find(|kept| rest.starts_with(**kept));
        let length = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (shown, taken) = match kept {
            Some(kept) => (*kept, kept.len()),
            None if length > 0 => ("N", length),
            None => (&rest[..c.len_utf8()], c.len_utf8()),
        };
        plain.push_str(shown);
        rest = &rest[taken..];
    }
    plain
}

fn other_program(path: &Path, program: compile::Built) -> Outcome {
    let program = program?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let chapter: u8 = name.get(..2).and_then(|digits| digits.parse().ok()).ok_or("no chapter in its name")?;
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    let line =
        text.lines().take(10).find_map(|line| line.split_once("passes:")).ok_or("it names no tasks")?;
    let report = graded(chapter, &program)?;
    let all = verdicts(&report)?;
    for id in line.1.split_whitespace() {
        let verdict = all.get(id).map(String::as_str);
        must(matches!(verdict, Some("pass" | "blocked")), format!("{id} is {verdict:?}: {report:#}"))?;
    }
    Ok(())
}

fn exercises_are_cut_from_the_solutions() -> Outcome {
    let output =
        Command::new(program("handout")).arg("--check").current_dir(root()).output().expect("it starts");
    must(output.status.success(), String::from_utf8_lossy(&output.stderr))
}

fn untouched_exercises_are_not_started() -> Outcome {
    let output = grade(&["--all", "--format", "json"]);
    let reports = json(&output)?;
    must(output.status.success(), "the first command a student runs is green")?;
    for report in reports.as_array().into_iter().flatten() {
        must(report["score"] == 0, format!("{report:#}"))?;
        for (id, verdict) in verdicts(report)? {
            must(verdict == "not_started", format!("{id} is {verdict}"))?;
        }
    }
    // Without the source: what is reached says so.
    for chapter in chapters::numbers() {
        let report = graded(chapter, &program(&format!("exercise{chapter:02}")))?;
        must(report["score"] == 0, format!("{report:#}"))?;
        for (id, verdict) in verdicts(&report)? {
            let fine = ["not_started", "needs", "blocked"].contains(&verdict.as_str());
            must(fine, format!("{id} is {verdict}: {report:#}"))?;
        }
    }
    Ok(())
}

fn json_is_as_its_schema_says() -> Outcome {
    let schema: Value = serde_json::from_str(include_str!("../crates/grade/src/schema.json")).expect("JSON");
    for report in [
        graded(1, &program("solution01"))?,
        graded(1, Path::new("/bin/true"))?,
        json(&grade(&["--all", "--program", "/bin/false", "--format", "json"]))?,
    ] {
        conforms(&report, &schema, &schema)?;
    }
    must(conforms(&serde_json::json!({ "chapter": 1 }), &schema, &schema).is_err(), "the test tests nothing")
}

/// As much of JSON Schema as ours uses.
fn conforms(value: &Value, schema: &Value, all: &Value) -> Outcome {
    if let Some(name) = schema["$ref"].as_str() {
        let target = all.pointer(name.trim_start_matches('#')).ok_or("a reference to nothing")?;
        return conforms(value, target, all);
    }
    if let Some(ways) = schema["oneOf"].as_array() {
        let fitting = ways.iter().filter(|way| conforms(value, way, all).is_ok()).count();
        return must(fitting == 1, format!("{fitting} of the ways fit {value:#}"));
    }
    let right = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_i64() || value.is_u64(),
        _ => true,
    };
    must(right, format!("{value} is no {}", schema["type"]))?;
    if let Some(words) = schema["enum"].as_array() {
        must(words.contains(value), format!("{value} is none of {words:?}"))?;
    }
    if let (Some(least), Some(number)) = (schema["minimum"].as_i64(), value.as_i64()) {
        must(number >= least, format!("{number} is less than {least}"))?;
    }
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        must(value.get(name).is_some(), format!("{name} is missing in {value}"))?;
    }
    for (name, inner) in value.as_object().into_iter().flatten() {
        match schema["properties"].get(name) {
            Some(rule) => conforms(inner, rule, all)?,
            None => must(schema["additionalProperties"] != false, format!("{name} is not in the schema"))?,
        }
    }
    for inner in value.as_array().into_iter().flatten() {
        conforms(inner, &schema["items"], all)?;
    }
    Ok(())
}

fn gradescope_and_classroom50() -> Outcome {
    let path = program("solution01");
    let path = path.to_string_lossy();
    let scope = json(&grade(&["1", "--program", &path, "--format", "gradescope"]))?;
    let tests = scope["tests"].as_array().ok_or("no tests")?;
    let sum: u64 = tests.iter().filter_map(|test| test["score"].as_u64()).sum();
    must(scope["score"].as_u64() == Some(sum) && sum > 0, format!("{scope:#}"))?;
    for test in tests {
        must(test["name"].is_string() && test["max_score"].is_u64(), format!("{test:#}"))?;
        must(["passed", "failed"].iter().any(|word| test["status"] == *word), format!("{test:#}"))?;
    }
    let output = grade(&["1", "--program", "/bin/false", "--format", "classroom50"]);
    must(output.status.success(), "a result is no failure of the infrastructure")?;
    let result = json(&output)?;
    let names: BTreeSet<&str> = result.as_object().ok_or("no object")?.keys().map(String::as_str).collect();
    let wanted = "schema classroom assignment assignment_type owner submission commit release review datetime graded_at \
                  score max-score tests";
    must(names == wanted.split(' ').collect(), format!("{names:?}"))?;
    must(result["schema"] == "classroom50/result/v1", "another schema")?;
    must(result["assignment_type"] == "individual", "assignment_type")?;
    for test in result["tests"].as_array().ok_or("no tests")? {
        let names: BTreeSet<&str> = test.as_object().ok_or("no object")?.keys().map(String::as_str).collect();
        must(
            "test-name passed score max-score".split(' ').all(|name| names.contains(name)),
            format!("{test:#}"),
        )?;
        must(test["score"].as_u64() <= test["max-score"].as_u64(), format!("{test:#}"))?;
    }
    Ok(())
}

fn hints_and_explanations() -> Outcome {
    for exercise in exercises() {
        for task in &exercise.tasks {
            let output = grade(&["--explain", &task.id]);
            let text = String::from_utf8_lossy(&output.stdout);
            must(output.status.success() && text.contains(&task.title), text.clone())?;
            must(!text.contains("no check"), format!("{} has no check", task.id))?;
            for level in 1..=3 {
                let output = grade(&["--hint", &task.id, "--level", &level.to_string()]);
                let text = String::from_utf8_lossy(&output.stdout);
                must(text.contains(task.hints[level - 1].trim()), text.clone())?;
            }
        }
    }
    Ok(())
}

fn wrong_command_lines() -> Outcome {
    let beyond = (chapters::NEWEST + 1).to_string();
    for args in [
        &[] as &[&str],
        &[&beyond],
        &["--hint", "9.9"],
        &["--format", "xml", "1"],
        &["1", "--program", "/no/such"],
    ] {
        let output = grade(args);
        must(output.status.code() == Some(2), format!("{args:?}: {:?}", output.status))?;
        must(output.stdout.is_empty() && !output.stderr.is_empty(), format!("{args:?}: on stderr only"))?;
    }
    Ok(())
}

fn place() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory below target/")
}

fn a_class_is_graded_and_resumed() -> Outcome {
    let place = place();
    let class = place.path().join("class");
    let exercise = Exercise::read(root(), 1).map_err(|error| error.to_string())?;
    let chapter = exercise.directory.file_name().unwrap_or_default();
    let hand_in = |name: &str, text: &str| {
        let directory = class.join(name).join("chapters").join(chapter);
        fs::create_dir_all(&directory).expect("writable");
        fs::write(directory.join("exercise.rs"), text).expect("writable");
    };
    let solution = fs::read_to_string(exercise.directory.join("solution.rs")).expect("readable");
    hand_in("ada", &solution);
    hand_in(
        "bob, the second",
        &fs::read_to_string(exercise.directory.join("exercise.rs")).expect("readable"),
    );
    hand_in("eve", "fn main() { let x: u8 = \"one\"; another_error() }");
    // The one file that was asked for, as a website hands it on.
    fs::create_dir_all(class.join("zoe")).expect("writable");
    fs::write(class.join("zoe/exercise.rs"), &solution).expect("writable");
    // Somebody else's answer, by its path.
    hand_in(
        "rob",
        &format!(
            "const _: &str = include_str!({:?}); fn main() {{}}",
            exercise.directory.join("solution.rs")
        ),
    );
    let hostile = class.join("mallory");
    fs::create_dir_all(&hostile).expect("writable");
    fs::copy(root().join("tests/hostile/killall.sh"), hostile.join("mine.sh")).expect("readable");
    let output = place.path().join("grades");
    let (class, grades) = (class.to_string_lossy().into_owned(), output.to_string_lossy().into_owned());
    let args = ["1", "--submissions", class.as_str(), "--output", grades.as_str()];
    let said = grade(&args);
    must(said.status.success(), String::from_utf8_lossy(&said.stderr))?;
    let table = fs::read_to_string(output.join("results.csv")).map_err(|error| error.to_string())?;
    let line = |name: &str| table.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_string();
    must(line("ada").starts_with("ada,1,20,20,0,"), table.clone())?;
    must(line("zoe").starts_with("zoe,1,20,20,0,"), table.clone())?;
    must(line("\"bob, the second\"").ends_with(",not started"), table.clone())?;
    must(
        line("eve").starts_with("eve,1,0,20,0,,") && line("eve").ends_with("could not be built"),
        table.clone(),
    )?;
    must(line("mallory").starts_with("mallory,1,0,"), table.clone())?;
    must(
        line("rob").starts_with("rob,1,0,20,0,,") && line("rob").ends_with("could not be built"),
        table.clone(),
    )?;
    let rob = fs::read_to_string(output.join("rob.json")).map_err(|error| error.to_string())?;
    must(rob.contains("an exercise is one file"), rob)?;
    let eve = fs::read_to_string(output.join("eve.json")).map_err(|error| error.to_string())?;
    must(eve.contains("mismatched types") != eve.contains("another_error`"), "the first error and no other")?;
    let again = String::from_utf8_lossy(&grade(&args).stdout).into_owned();
    must(again.contains("6 submissions, 0 graded now"), again)?;
    fs::remove_file(output.join("ada.json")).map_err(|error| error.to_string())?;
    let again = String::from_utf8_lossy(&grade(&args).stdout).into_owned();
    must(again.contains("6 submissions, 1 graded now"), again)
}

fn students_edition_builds_and_grades() -> Outcome {
    let place = place();
    let student = place.path().join("student");
    let output = Command::new(program("handout"))
        .arg("--student")
        .arg(&student)
        .args(["--hide-library", "1,5,7,10"])
        .current_dir(root())
        .output()
        .expect("it starts");
    must(output.status.success(), String::from_utf8_lossy(&output.stderr))?;
    let found = Command::new("grep")
        .args(["-rlE", r"^\s*// answer [0-9]|^\[\[mutant\]\]"])
        .arg(&student)
        .output()
        .expect("grep");
    must(found.stdout.is_empty(), format!("answers in {}", String::from_utf8_lossy(&found.stdout)))?;
    // The book can be built there.
    for page in fs::read_dir(student.join("book/src")).map_err(|error| error.to_string())?.flatten() {
        let text = fs::read_to_string(page.path()).unwrap_or_default();
        for include in text.split("{{#include ").skip(1) {
            let file = include.split(['}', ':']).next().unwrap_or_default();
            let there = student.join("book/src").join(file).is_file();
            must(there, format!("{} includes {file}", page.path().display()))?;
        }
    }
    // A target directory that stays, so that only the first run is slow; apart from ours, which has programs
    // of the same names.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("student-target");
    let output = Command::new("cargo")
        .args(["run", "-q", "--offline", "--bin", "grade", "--", "1", "--format", "json"])
        .current_dir(&student)
        .env("CARGO_TARGET_DIR", target)
        .env_remove("CARGO_MANIFEST_DIR")
        .output()
        .expect("cargo starts");
    let report = json(&output)?;
    must(output.status.success(), format!("{report:#}"))?;
    for (id, verdict) in verdicts(&report)? {
        must(verdict == "not_started", format!("{id} is {verdict}"))?;
    }
    Ok(())
}

/// Not only chapters/: tests/programs/ has answers too, and .git every file that ever was.
fn the_crate_is_out_of_sight() -> Outcome {
    let place = place();
    let program = place.path().join("look.sh");
    // In target/grade/ there is the directory of this check, with the program itself.
    let look = format!("find '{}' -type f -not -path '*/target/grade/*' 2>/dev/null", root().display());
    let script = format!("#!/bin/sh\necho looked\n{look}\n");
    fs::write(&program, script).expect("writable");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("ours");
    let report = graded(1, &program)?.to_string();
    must(report.contains("looked") && !report.contains(&*root().to_string_lossy()), report)
}

/// A program finds what is beside it, under the path and by the name that it was handed in with.
fn a_programs_directory_is_there() -> Outcome {
    // Outside of the workbook: there is nothing to be seen of that.
    let place = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| {
        let file = place.path().join(name);
        fs::write(&file, text).expect("writable");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("ours");
        file
    };
    // Does what its part says; the part is beside it, and says so only there and only read-only.
    let program = write("prog", "#!/bin/sh\nhere=${0%/*}\n. \"$here/part.sh\" \"$@\"\n");
    write(
        "part.sh",
        "echo \"found by ${0##*/}\"; if (echo >\"$here/new\") 2>/dev/null; then echo it can write; fi\n",
    );
    let link = place.path().join("another-name");
    std::os::unix::fs::symlink("prog", &link).expect("writable");
    for (path, name) in [(&program, "prog"), (&link, "another-name")] {
        let report = graded(1, path)?.to_string();
        must(report.contains(&format!("found by {name}")) && !report.contains("it can write"), report)?;
    }
    must(!place.path().join("new").exists(), "nothing is written there")
}

/// What of a check could stay behind on the machine.
fn machine() -> (String, Vec<String>, BTreeSet<PathBuf>, String) {
    let mut cgroups = BTreeSet::new();
    let mut waiting = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                waiting.push(entry.path());
                // Other tests have labs at the same time.
                if !entry.path().to_string_lossy().contains("cooperage") {
                    cgroups.insert(entry.path());
                }
            }
        }
    }
    let hostname = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    (fs::read_to_string("/proc/self/mountinfo").unwrap_or_default(), support::run::links(), cgroups, hostname)
}

/// How many processes of this machine have a word in their command line that ends so.
fn processes(end: &str) -> usize {
    let lines = fs::read_dir("/proc").into_iter().flatten().flatten();
    lines
        .filter_map(|entry| fs::read_to_string(entry.path().join("cmdline")).ok())
        .filter(|line| line.split('\0').any(|word| word.ends_with(end)))
        .count()
}

fn a_fork_bomb_is_held() -> Outcome {
    are_held(&[("bomb", "processes")])
}

fn hostile_programs_are_held() -> Outcome {
    are_held(&[
        ("hang", "still running"),
        ("flood", "more than that"),
        ("fill", "filled the disk"),
        ("killparent", "SIGKILL"),
        ("stopparent", "SIGSTOP"),
        ("killall", "SIGKILL"),
        ("umountall", "unmounted"),
        ("forge", ""),
    ])
}

/// Each of these programs of tests/hostile fails, with these words, and nothing else comes to harm.
fn are_held(programs: &[(&str, &str)]) -> Outcome {
    let before = machine();
    for (name, said) in programs {
        let path = root().join("tests/hostile").join(format!("{name}.sh"));
        let report = graded(1, &path)?;
        must(report["score"] == 0, format!("{name}: {report:#}"))?;
        let failures: Vec<_> = report["tasks"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|task| task["failure"].is_object())
            .collect();
        must(!failures.is_empty(), format!("{name}: no failure: {report:#}"))?;
        let saw = |task: &&&Value| task["failure"]["saw"].as_str().is_some_and(|saw| saw.contains(said));
        must(failures.iter().any(|task| saw(&task)), format!("{name}: {report:#}"))?;
        must(!report.to_string().contains("can be read"), format!("{name}: {report:#}"))?;
        // The grader is well: the next check runs.
        let next = graded(1, &program("solution01"))?;
        must(next["score"] == next["max_score"], format!("after {name}: {next:#}"))?;
        // Whoever else works on this machine comes and goes.
        let start = std::time::Instant::now();
        while machine() != before || processes(&format!("{name}.sh")) > 0 {
            let over = start.elapsed().as_secs() > 20;
            let left = processes(&format!("{name}.sh"));
            let now = machine();
            must(
                !over,
                format!("the machine is not as it was before {name}: {left} processes, {before:?}, {now:?}"),
            )?;
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    }
    Ok(())
}
