//! The checks. Each panics with all that it found.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use cooperage::workshop::chapters;
use grade::tasks::Exercise;

use super::page::{self, Page, resolve, source_directory};
use super::{files_below, root};

/// The sections of a chapter's page, in order.
const SECTIONS: [&str; 13] = [
    "Goals",
    "Run the finished thing",
    "The problem and the idea",
    "Predict",
    "The code",
    "What changed",
    "Run it",
    "Look from outside",
    "Break it",
    "Exercises",
    "Check yourself",
    "How Docker does it",
    "Further reading",
];

/// What a block may be marked with when its text stands in the page itself. It is no program of this crate and
/// nobody's output: commands to type, and other programs' settings.
const WRITTEN_IN_PAGES: [&str; 11] =
    ["sh", "toml", "yaml", "json", "ini", "dockerfile", "powershell", "c", "python", "nginx", "xml"];

/// Collects what is wrong, and fails with all of it.
struct Faults {
    page: String,
    found: Vec<String>,
}

impl Faults {
    fn of(page: &str) -> Faults {
        Faults { page: page.to_string(), found: Vec::new() }
    }

    fn unless(&mut self, is_so: bool, fault: impl FnOnce() -> String) {
        if !is_so {
            self.found.push(fault());
        }
    }

    fn end(self) {
        let Faults { page, found } = self;
        assert!(found.is_empty(), "{page}:\n  - {}", found.join("\n  - "));
    }
}

/// The pages that SUMMARY.md lists, in order.
pub fn listed() -> Vec<String> {
    let summary = Page { name: "SUMMARY.md".into(), text: read(&source_directory().join("SUMMARY.md")) };
    summary.links()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// SUMMARY.md lists every page once, and no other.
pub fn summary_and_files_agree() {
    let mut faults = Faults::of("SUMMARY.md");
    let listed = listed();
    for (index, name) in listed.iter().enumerate() {
        faults.unless(!listed[..index].contains(name), || format!("{name} is listed twice"));
        faults.unless(source_directory().join(name).is_file(), || format!("there is no {name}"));
    }
    for path in files_below(&source_directory(), "md") {
        let name = path.strip_prefix(source_directory()).unwrap_or(&path).display().to_string();
        faults.unless(name == "SUMMARY.md" || listed.contains(&name), || format!("it does not list {name}"));
    }
    faults.end();
}

/// Every page is compiled as a doctest of the crate.
pub fn pages_are_doctests() {
    let mut faults = Faults::of("src/lib.rs");
    let text = read(&root().join("src/lib.rs"));
    for name in listed() {
        let wanted = format!("include_str!(\"../book/src/{name}\")");
        faults.unless(text.contains(&wanted), || format!("its doctests lack {wanted}"));
    }
    faults.end();
}

/// What it includes is there; and what it holds of code and output is included.
pub fn includes(page: &Page) {
    let mut faults = Faults::of(&page.name);
    for include in page.includes() {
        let written = &include.written;
        if let Err(reason) = resolve(&include) {
            faults.found.push(reason);
            continue;
        }
        let numbers =
            include.part.as_ref().is_some_and(|part| part.starts_with(|c: char| c.is_ascii_digit()));
        let is_snapshot = include.file.extension().is_some_and(|is| is == "snap");
        faults.unless(is_snapshot || !numbers, || {
            format!("{written}: lines move; put a region around them (// ANCHOR: name)")
        });
        faults.unless(!is_snapshot || include.part.as_deref() == Some("4:"), || {
            format!("{written}: a snapshot's content begins at line 4: write {}:4:", include.file.display())
        });
        let is_main = include.file.starts_with("chapters") && include.file.ends_with("main.rs");
        faults.unless(!is_main || include.part.is_none(), || {
            format!("{written}: a chapter's main.rs has no regions: include it whole, or its difference")
        });
    }
    for block in page.blocks() {
        let found = page::includes(&block.text);
        let only_includes = !found.is_empty()
            && block.text.lines().all(|line| line.trim().is_empty() || line.trim().starts_with("{{#include"));
        let language = block.language.split([',', ' ']).next().unwrap_or_default();
        let start = block.text.lines().next().unwrap_or_default();
        let fits = match language {
            "rust" if block.language == "rust,ignore" => only_includes,
            "rust" => found.is_empty(),
            "" => false,
            _ if only_includes => true,
            "sh" => !block.text.lines().any(|line| line.starts_with("$ ")),
            _ => WRITTEN_IN_PAGES.contains(&language) && found.is_empty(),
        };
        faults.unless(fits, || {
            let advice = match language {
                "rust" if only_includes => "included code is marked `rust,ignore`",
                "rust" => {
                    "Rust that stands in the page is marked `rust`, which is compiled; other is included"
                }
                "" => "say what is in it: ```sh, ```console ...",
                "sh" => "commands only, without `$ `; what they print is included, in a ```console block",
                _ => "what a program prints is the included snapshot of a session, and nothing else",
            };
            let (section, language) = (&block.section, &block.language);
            format!("{section:?}: the block ```{language} that begins {start:?}: {advice}")
        });
    }
    faults.end();
}

/// Every internal link leads to a page and a heading that are there.
pub fn links(page: &Page) {
    let mut faults = Faults::of(&page.name);
    let listed = listed();
    for link in page.links() {
        if link.starts_with("https://") {
            continue;
        }
        let (file, id) = link.split_once('#').unwrap_or((&link, ""));
        let name = if file.is_empty() { page.name.as_str() } else { file };
        if !listed.iter().any(|known| known == name) {
            faults
                .found
                .push(format!("the link {link:?} leads to no page of the book, nor to an https address"));
            continue;
        }
        if !id.is_empty() {
            let other = Page::read(name);
            let ids: Vec<String> = other.headings().into_iter().map(|heading| heading.id).collect();
            faults.unless(
                ids.iter().any(|known| known == id) || other.html_ids().iter().any(|known| known == id),
                || format!("the link {link:?} leads to no heading: {name} has {}", ids.join(", ")),
            );
        }
    }
    let mut seen = BTreeSet::new();
    for id in page.html_ids() {
        faults.unless(seen.insert(id.clone()), || format!("two elements have the id {id:?}"));
    }
    faults.end();
}

/// The programs of the crate, with the options of each.
fn programs() -> &'static BTreeMap<String, BTreeSet<String>> {
    static PROGRAMS: OnceLock<BTreeMap<String, BTreeSet<String>>> = OnceLock::new();
    PROGRAMS.get_or_init(|| {
        let manifests =
            [".", "crates/grade", "crates/breakout", "crates/oci"].map(|place| format!("{place}/Cargo.toml"));
        let tables =
            manifests.map(|name| -> toml::Table { toml::from_str(&read(&root().join(name))).expect("TOML") });
        let bins = tables.iter().flat_map(|table| table["bin"].as_array().expect("a list"));
        let names = bins.map(|bin| bin["name"].as_str().expect("a name").to_string());
        names.map(|name| (name.clone(), options(&name, &[]))).collect()
    })
}

/// The options that a program's --help names, and those of its subcommands.
fn options(name: &str, subcommand: &[&str]) -> BTreeSet<String> {
    let program = crate::support::built().join(name);
    let output = Command::new(&program).args(subcommand).arg("--help").output();
    let output = output.unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut found: BTreeSet<String> = option_words(&text).collect();
    let commands = text.lines().skip_while(|line| !line.starts_with("Commands:")).skip(1);
    for line in commands.take_while(|line| line.starts_with("  ")) {
        let word = line.split_whitespace().next().unwrap_or_default();
        if subcommand.is_empty() && word != "help" {
            found.extend(options(name, &[word]));
        }
    }
    found
}

fn option_words(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-')
        .filter(|word| word.starts_with("--") && word.len() > 2)
        .map(str::to_string)
}

/// Every program, option, file, function and task that it names exists.
pub fn names(page: &Page) {
    let mut faults = Faults::of(&page.name);
    let files = all_files();
    let mut commands: Vec<String> = Vec::new();
    for block in page.blocks() {
        if block.language == "sh" {
            commands.extend(block.text.replace("\\\n", " ").lines().map(str::to_string));
        }
    }
    for span in page.spans() {
        commands.push(span.text.clone());
        let word = span.text.trim();
        // An option alone is one of ours, or Docker's where Docker is spoken of.
        let of_docker = span.section == "How Docker does it"
            || page.name == "what-a-container-is.md"
            || word == "--privileged";
        if let Some(option) = option_words(word).next().filter(|option| word.starts_with(option.as_str())) {
            let known = programs().values().any(|options| options.contains(&option));
            faults.unless(known || of_docker, || {
                format!(
                    "`{word}`: no program here has {option}; if it is another's, write `its-name {option}`"
                )
            });
        }
        if let Some(fault) = file_fault(word, &files) {
            faults.found.push(fault);
        }
        if let Some(fault) = item_fault(word) {
            faults.found.push(fault);
        }
    }
    for command in &commands {
        faults.found.extend(command_faults(command));
    }
    for (word, id) in task_ids(&page.text) {
        faults.unless(tasks().contains(&id), || format!("{word} {id}: there is no such task"));
    }
    for word in page.text.split(|c: char| !c.is_ascii_alphanumeric()) {
        let number = ["chapter", "exercise", "solution"].iter().find_map(|name| word.strip_prefix(name));
        let is_name = number.is_some_and(|number| number.len() == 2 && number.parse::<u8>().is_ok());
        faults.unless(!is_name || programs().contains_key(word), || format!("there is no program {word}"));
    }
    faults.end();
}

fn all_files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    for directory in ["src", "crates", "chapters", "tests", "book", "benches", ".ci"] {
        for extension in ["rs", "toml", "md", "snap", "sh", "js", "css", "svg", "json", "py", "mjs"] {
            files.extend(files_below(&root().join(directory), extension));
        }
    }
    files.extend(files_below_top());
    files
}

fn files_below_top() -> Vec<PathBuf> {
    fs::read_dir(root()).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// A file of the crate that is not there.
fn file_fault(word: &str, files: &[PathBuf]) -> Option<String> {
    let placeholder = word.contains("NN") || word.contains('*') || word.contains("NAME");
    if placeholder || word.contains(char::is_whitespace) || word.contains("::") {
        return None;
    }
    let ours = ["src/", "crates/", "chapters/", "tests/", "book/", "benches/", ".ci/"];
    if ours.iter().any(|directory| word.starts_with(directory)) {
        return (!root().join(word).exists()).then(|| format!("`{word}`: there is no such file"));
    }
    let is_rust_file = word.ends_with(".rs") && !word.starts_with('/') && word.len() > 3;
    let known = || files.iter().any(|path| path.ends_with(word));
    (is_rust_file && !known()).then(|| format!("`{word}`: the crate has no file of this name"))
}

/// `module::item` of the library that is not there.
fn item_fault(word: &str) -> Option<String> {
    let mut parts = word.split(['(', '<', ' ']).next().unwrap_or_default().split("::");
    let (module, item) = (parts.next()?, parts.next()?);
    let is_word = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || c == '_');
    if !is_word(module) || !is_word(item) {
        return None;
    }
    let mut texts = Vec::new();
    for directory in ["src/container", "src/container/cgroup", "src/workshop"] {
        for name in [format!("{module}.rs"), format!("{module}/mod.rs")] {
            texts.extend(fs::read_to_string(root().join(directory).join(name)));
        }
    }
    let kinds = ["fn", "struct", "enum", "const", "static", "type", "trait", "mod", "use"];
    let defined = |text: &String| {
        text.contains(&format!("{item},"))
            || kinds.iter().any(|kind| text.contains(&format!("{kind} {item}")))
    };
    (!texts.is_empty() && !texts.iter().any(defined)).then(|| format!("`{word}`: {module} has no {item}"))
}

/// `target/debug/chapter05`
fn built_program(word: &str) -> Option<&str> {
    let word = word.strip_prefix("./").unwrap_or(word);
    word.strip_prefix("target/debug/")
        .or(word.strip_prefix("target/release/"))
        .filter(|name| !name.is_empty())
}

/// Options that the crate's program in this command line does not have.
fn command_faults(command: &str) -> Vec<String> {
    let words: Vec<&str> = command.split_whitespace().take_while(|word| !word.starts_with('#')).collect();
    let mut faults = Vec::new();
    let mut rest = words.as_slice();
    let (name, mut arguments): (&str, &[&str]) = loop {
        match rest {
            ["cargo", "run", after @ ..] => {
                let Some(at) = after.iter().position(|word| *word == "--bin") else { return faults };
                let name = after.get(at + 1).copied().unwrap_or_default();
                let mut tail = after.get(at + 2..).unwrap_or_default();
                if tail.first() == Some(&"--") {
                    tail = &tail[1..];
                }
                break (name, tail);
            }
            [word, after @ ..] if built_program(word).is_some() => {
                break (built_program(word).unwrap_or_default(), after);
            }
            [word, after @ ..] if programs().contains_key(*word) => break (word, after),
            [_, after @ ..] => rest = after,
            [] => return faults,
        }
    };
    if name.contains("NN") || name.contains("NAME") || name.contains('*') || name.is_empty() {
        return faults;
    }
    let Some(known) = programs().get(name) else {
        faults.push(format!("`{command}`: there is no program {name}"));
        return faults;
    };
    let mut is_value = false;
    while let [word, after @ ..] = arguments {
        arguments = after;
        match word.split_once('=').map_or(*word, |(option, _)| option) {
            "--" => break,
            option if option.starts_with("--") => {
                let option: String =
                    option.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
                if !known.contains(&option) {
                    faults.push(format!("`{command}`: {name} has no {option}"));
                }
                is_value = !word.contains('=');
            }
            option if option.starts_with('-') => is_value = true,
            // A subcommand, such as that of breakout, or a chapter's number.
            _ if is_value || name == "breakout" || name == "grade" => is_value = false,
            _ => break,
        }
    }
    faults
}

/// The tasks' numbers.
fn tasks() -> &'static BTreeSet<String> {
    static TASKS: OnceLock<BTreeSet<String>> = OnceLock::new();
    TASKS.get_or_init(|| {
        let read = |chapter| Exercise::read(root(), chapter).unwrap_or_else(|error| panic!("{error}"));
        chapters::numbers().flat_map(|chapter| read(chapter).tasks).map(|task| task.id).collect()
    })
}

/// The numbers of tasks that a text names, each with the word before it.
fn task_ids(text: &str) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    for word in ["task", "Task", "tasks", "Tasks", "--hint", "--explain"] {
        for rest in text.split(&format!("{word} ")).skip(1) {
            let id: String = rest.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
            let id = id.trim_end_matches('.');
            if id.split('.').count() == 2 {
                found.push((word, id.to_string()));
            }
        }
    }
    found
}

/// A chapter's page has every section, in order; and every section that a task tells to reread.
pub fn sections(page: &Page) {
    let mut faults = Faults::of(&page.name);
    let chapter = page.chapter().expect("a chapter's page");
    let headings = page.headings();
    let first = headings.first().map(|heading| (heading.level, heading.title.as_str()));
    faults.unless(
        first.is_some_and(|(level, title)| level == 1 && title.starts_with(&format!("Chapter {chapter}: "))),
        || format!("its first heading is `# Chapter {chapter}: ...`"),
    );
    let found: Vec<&str> =
        headings.iter().filter(|heading| heading.level == 2).map(|heading| heading.title.as_str()).collect();
    let mut wanted: Vec<String> = SECTIONS.map(str::to_string).to_vec();
    if chapter > 1 {
        wanted[5] = format!("What changed since chapter {}", chapter - 1);
    }
    faults.unless(found == wanted, || {
        let missing: Vec<&String> = wanted.iter().filter(|title| !found.contains(&title.as_str())).collect();
        let others: Vec<&&str> =
            found.iter().filter(|title| !wanted.iter().any(|want| want == *title)).collect();
        format!(
            "its sections are to be {wanted:?}, in this order; missing {missing:?}, not of them {others:?}"
        )
    });
    let exercise = Exercise::read(root(), chapter).unwrap_or_else(|error| panic!("{error}"));
    for task in &exercise.tasks {
        faults.unless(headings.iter().any(|heading| heading.title == task.section), || {
            format!("task {} tells to reread {:?}, and no heading is called so", task.id, task.section)
        });
    }
    faults.end();
}

/// A chapter's page has enough of everything.
pub fn amounts(page: &Page) {
    let mut faults = Faults::of(&page.name);
    let chapter = page.chapter().expect("a chapter's page");
    let blocks = page.blocks();
    let of = |language: &str| blocks.iter().filter(|block| block.language == language).count();
    let mut at_least = |count: usize, least: usize, what: &str| {
        faults.unless(count >= least, || format!("it has {count} of at least {least} {what}"));
    };
    at_least(of("rust,ignore"), 8, "regions of code");
    at_least(of("console"), 4, "outputs");
    at_least(page.text.matches("{{#include pictures/").count(), 2, "pictures");
    let questions = page.section("Check yourself").unwrap_or_default().matches("<summary>").count();
    at_least(questions, 5, "questions in \"Check yourself\"");
    let predict = page.section("Predict").unwrap_or_default();
    at_least(predict.matches("class=\"predict\"").count(), 1, "boxes in \"Predict\"");
    at_least(predict.matches("<summary>").count(), 1, "folded answers in \"Predict\"");
    let part = |title: &str, what: &str| page.section(title).unwrap_or_default().matches(what).count();
    at_least(
        part("The problem and the idea", "{{#include pictures/"),
        1,
        "pictures in \"The problem and the idea\"",
    );
    at_least(part("Run it", "```console"), 1, "outputs in \"Run it\"");
    // What all programs of Part I are tried with.
    let is_container = chapters::containers().contains(&chapter);
    if is_container {
        at_least(part("Break it", "```console"), 1, "outputs in \"Break it\"");
        at_least(
            part("Break it", &format!("breakouts/{chapter:02}.snap")),
            1,
            "tables of breakouts in \"Break it\"",
        );
    }
    at_least(
        part("Exercises", &format!("exercises/{chapter:02}.snap")),
        1,
        "lists of the tasks in \"Exercises\"",
    );
    at_least(part("Further reading", "https://"), 2, "links in \"Further reading\"");
    if chapter > 1 && is_container {
        let title = format!("What changed since chapter {}", chapter - 1);
        at_least(part(&title, &format!("diff/{chapter:02}.snap")), 1, "differences from the last chapter");
    }
    let words = page.words();
    faults.unless((2500..=5000).contains(&words), || format!("it has {words} words, not 2,500 to 5,000"));
    faults.end();
}

/// A page that is more than its heading.
pub fn is_written(page: &Page) {
    assert!(page.words() > 100, "{} has {} words", page.name, page.words());
}

/// Every region of the sources has a name of its own, an end, something in it, and a page that shows it.
pub fn regions_are_used() {
    let mut faults = Faults::of("regions of the sources");
    let mut used: BTreeSet<(PathBuf, String)> = BTreeSet::new();
    for name in listed() {
        for include in Page::read(&name).includes() {
            used.extend(include.part.map(|part| (include.file, part)));
        }
    }
    let mut names: BTreeMap<String, PathBuf> = BTreeMap::new();
    let mut sources = files_below(&root().join("src"), "rs");
    sources.extend(files_below(&root().join("crates/oci/src"), "rs"));
    for path in sources.iter().chain(&files_below(&root().join("chapters"), "rs")) {
        let file = path.strip_prefix(root()).unwrap_or(path).to_path_buf();
        let shown = file.display();
        for line in read(path).lines() {
            let Some(name) = page::anchor(line, "ANCHOR:") else { continue };
            faults
                .unless(!file.starts_with("chapters"), || format!("{shown}: {name}: no regions in chapters"));
            let include =
                page::Include { written: name.clone(), file: file.clone(), part: Some(name.clone()) };
            if let Err(reason) = resolve(&include) {
                faults.found.push(format!("{reason}, and `// ANCHOR_END: {name}` ends it"));
            }
            if let Some(other) = names.insert(name.clone(), file.clone()) {
                faults.found.push(format!("{name} is in {shown} and in {}", other.display()));
            }
            faults.unless(used.contains(&(file.clone(), name.clone())), || {
                format!("{shown}: no page shows {name}")
            });
        }
    }
    faults.end();
}

/// Every snapshot that a page shows is made by a test; and every one that is made for a page is shown.
pub fn snapshots_are_made_and_shown(sessions: &[crate::support::session::Session]) {
    let mut faults = Faults::of("snapshots");
    let mut shown: BTreeSet<String> = BTreeSet::new();
    for name in listed() {
        for include in Page::read(&name).includes() {
            if include.file.extension().is_some_and(|is| is == "snap") {
                faults.unless(include.file.starts_with("tests/snapshots"), || {
                    format!("{name}: {}", include.written)
                });
                shown.insert(snapshot_name(&include.file));
            }
        }
    }
    let mut made: BTreeSet<String> = BTreeSet::new();
    for session in sessions {
        made.insert(session.snapshot());
        made.extend(session.change().map(|_| format!("{}-change", session.snapshot())));
    }
    made.extend(chapters::from(2).map(|chapter| format!("diff/{chapter:02}")));
    made.extend(chapters::numbers().map(|chapter| format!("exercises/{chapter:02}")));
    made.insert("pages/system-calls".into());
    made.extend(super::pages::others().iter().map(|case| case.name.replacen("page-", "pages/", 1)));
    for name in &made {
        faults.unless(shown.contains(name), || format!("no page shows {name}"));
    }
    let patterns = snapshot_patterns();
    for name in &shown {
        let known = made.contains(name) || patterns.iter().any(|pattern| fits(pattern, name));
        faults.unless(known, || format!("{name}.snap is shown, and no test makes it"));
    }
    for path in files_below(&root().join("tests/snapshots"), "snap") {
        let name = snapshot_name(path.strip_prefix(root()).unwrap_or(&path));
        let for_pages = ["pages/", "diff/", "exercises/"].iter().any(|kind| name.starts_with(kind));
        faults.unless(!for_pages || made.contains(&name), || {
            format!("tests/snapshots/{name}.snap is left over: no session makes it")
        });
    }
    faults.end();
}

/// `KIND/NAME` of a file in tests/snapshots/, as the tests call it.
fn snapshot_name(file: &Path) -> String {
    let below = file.strip_prefix("tests/snapshots").unwrap_or(file);
    below.with_extension("").display().to_string()
}

/// The names that the other tests give to their snapshots, with `{}` where a part is computed.
fn snapshot_patterns() -> Vec<String> {
    let mut patterns = Vec::new();
    for path in files_below(&root().join("tests"), "rs") {
        for literal in read(&path).split('"') {
            let is_name = |c: char| c.is_ascii_alphanumeric() || "-_/{}:".contains(c);
            let start: String = literal.chars().take_while(|c| *c != '{').collect();
            if start.len() >= 4 && literal.contains('/') && literal.chars().all(is_name) {
                patterns.push(literal.to_string());
            }
        }
    }
    patterns
}

/// Is it such a name? `explain-chapter{number:02}-{user}`: what stands between the braces is any word.
fn fits(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('{').map(|part| part.rsplit('}').next().unwrap_or(part));
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut any = false;
    for part in parts {
        any = true;
        if part.is_empty() {
            continue;
        }
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    any && (pattern.ends_with('}') || rest.is_empty()) || rest.is_empty()
}

/// A picture can be read by everyone: by its title, at 400 pixels, in every theme.
pub fn picture(path: &Path) {
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let text = read(path);
    let mut faults = Faults::of(&format!("pictures/{name}.svg"));
    let mut must = |is_so: bool, what: &str| faults.unless(is_so, || what.to_string());
    must(!text.trim_end().contains("\n\n"), "no blank line: Markdown would end it there");
    must(text.starts_with("<svg "), "it begins with <svg");
    let tag = text.split('>').next().unwrap_or_default();
    let value = |name: &str| tag.split(&format!("{name}=\"")).nth(1).and_then(|rest| rest.split('"').next());
    must(value("role") == Some("img"), "role=\"img\"");
    must(value(" width").is_none() && value(" height").is_none(), "no fixed width or height");
    let frame: Vec<f64> =
        value("viewBox").unwrap_or_default().split(' ').filter_map(|n| n.parse().ok()).collect();
    must(frame.len() == 4 && frame[2] <= 640.0, "a viewBox at most 640 wide");
    for label in value("aria-labelledby").unwrap_or_default().split(' ') {
        let id = format!("id=\"{label}\"");
        must(
            !label.is_empty() && text.contains(&id),
            "aria-labelledby names its title and desc by their ids",
        );
    }
    for part in ["title", "desc"] {
        let inside = text.split(&format!("<{part} ")).nth(1).and_then(|rest| rest.split('>').nth(1));
        must(inside.is_some_and(|inside| inside.len() > 5), &format!("a <{part} id=...> with words in it"));
    }
    for written in [
        "style=",
        "font-size",
        "font-family",
        "fill=\"#",
        "stroke=\"#",
        "rgb(",
        "<style",
        "<script",
        "href=\"http",
    ] {
        must(!text.contains(written), &format!("no {written}: colours and fonts are css/cooperage.css's"));
    }
    let css = read(&root().join("book/css/cooperage.css"));
    for attribute in text.split("class=\"").skip(1) {
        for class in attribute.split('"').next().unwrap_or_default().split_whitespace() {
            let known = css
                .split(&format!(".{class}"))
                .skip(1)
                .any(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '-'));
            must(known, &format!("css/cooperage.css has no class {class}"));
        }
    }
    let include = format!("{{{{#include pictures/{name}.svg}}}}");
    must(listed().iter().any(|page| Page::read(page).text.contains(&include)), "no page shows it");
    faults.end();
}
