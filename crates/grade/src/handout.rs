//! Cuts the students' files from the answers, and makes the students' edition of the whole crate.
//!
//! In solution.rs an answer stands between two lines, `// answer 5.2` and `// end of answer 5.2`. Inside a
//! function they and all between them become `todo!("task 5.2")`. At the margin, where a helper of an answer
//! stands, they go altogether.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use cooperage::told::errors::{Error, Result};
use cooperage::workshop::chapters;

/// What lets a file of unfinished tasks build without a warning.
const ALLOWED: &str = "#![allow(unused, clippy::all, clippy::diverging_sub_expression, clippy::todo)]";

/// Makes exercise.rs of solution.rs.
pub fn cut(solution: &str) -> Result<String, String> {
    let mut lines: Vec<String> = Vec::new();
    let mut open: Option<(String, usize)> = None;
    let mut has_allowed = false;
    for (number, line) in solution.lines().enumerate() {
        let words = line.trim_start();
        let indent = line.len() - words.len();
        if let Some(id) = words.strip_prefix("// end of answer ") {
            match open.take() {
                Some((begun, at)) if begun == id.trim() && at == indent => {}
                Some((begun, _)) => {
                    return Err(format!(
                        "line {}: answer {begun} is open, or has another margin",
                        number + 1
                    ));
                }
                None => return Err(format!("line {}: no answer is open", number + 1)),
            }
        } else if let Some(id) = words.strip_prefix("// answer ") {
            if let Some((begun, _)) = open {
                return Err(format!("line {}: answer {begun} is still open", number + 1));
            }
            open = Some((id.trim().to_string(), indent));
            if indent > 0 {
                lines.push(format!("{}todo!(\"task {}\")", " ".repeat(indent), id.trim()));
            }
        } else if open.is_none() {
            // After the words at the head of the file, which are its only //! lines.
            if !has_allowed && !line.starts_with("//!") {
                has_allowed = true;
                lines.push(ALLOWED.to_string());
            }
            // What was around a helper would leave two empty lines.
            let after_empty = lines.last().is_none_or(|last| last.is_empty());
            if !(line.is_empty() && after_empty) {
                lines.push(line.to_string());
            }
        }
    }
    if let Some((begun, _)) = open {
        return Err(format!("answer {begun} has no end"));
    }
    while lines.last().is_some_and(|line| line.is_empty()) {
        lines.pop();
    }
    Ok(lines.join("\n") + "\n")
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|error| Error::io("make the students' files", path, &error))
}

/// Cuts every chapter's exercise.rs. With `check` nothing is written. The result is the files that differ.
pub fn cut_all(root: &Path, check: bool) -> Result<Vec<PathBuf>> {
    let mut different = Vec::new();
    for chapter in chapters::numbers() {
        let directory = chapters::directory(root, chapter)?;
        let (solution, exercise) = (directory.join("solution.rs"), directory.join("exercise.rs"));
        let text = cut(&read(&solution)?).map_err(|why| {
            Error::new("cut the answers out", format!("{}: {why}", solution.display()))
                .remedy("an answer stands between `// answer N.N` and `// end of answer N.N`")
        })?;
        if fs::read_to_string(&exercise).is_ok_and(|now| now == text) {
            continue;
        }
        if !check {
            fs::write(&exercise, text).map_err(|error| Error::io("write the exercise", &exercise, &error))?;
        }
        different.push(exercise);
    }
    Ok(different)
}

/// What of the library shows how a chapter's feature is done. Only files without modules of their own.
const SOURCES: &[(u8, &[&str])] = &[
    (1, &["src/container/root.rs", "crates/breakout/src/attacks/chroot.rs"]),
    (2, &["src/container/pid.rs"]),
    (
        3,
        &[
            "src/container/mount.rs",
            "src/container/overlay.rs",
            "src/container/volume.rs",
            "src/container/root.rs",
        ],
    ),
    (4, &["src/container/uts.rs", "src/container/ipc.rs"]),
    (5, &["src/container/net/network.rs", "src/container/net/netlink.rs", "src/container/net/nat.rs"]),
    (6, &["src/container/cgroup/v1.rs", "src/container/cgroup/v2.rs", "src/container/cgroup/limits.rs"]),
    (7, &["src/container/init.rs"]),
    (
        8,
        &[
            "src/container/user/maps.rs",
            "src/container/user/range.rs",
            "src/container/user/names.rs",
            "src/container/user/subordinate.rs",
        ],
    ),
    (10, &["crates/oci/src/hooks.rs", "crates/oci/src/record.rs", "crates/oci/src/start.rs"]),
];

/// Writes the students' edition into an empty or new directory: no answers, no mutants, no tests; and the
/// library's sources of the `hidden` chapters' features sealed, so that they build but cannot be read along
/// the way. (They are no secret: whoever wants to unseal them can.)
pub fn student_edition(root: &Path, to: &Path, hidden: &[u8]) -> Result<usize> {
    let step = "make the students' edition";
    let io = |path: &Path, error: &std::io::Error| Error::io(step, path, error);
    fs::create_dir_all(to).map_err(|error| io(to, &error))?;
    if fs::read_dir(to).map_err(|error| io(to, &error))?.next().is_some() {
        return Err(Error::new(step, format!("{} is not empty", to.display()))
            .remedy("name a directory that is not there yet"));
    }
    let inside = fs::canonicalize(to).map_err(|error| io(to, &error))?;
    let mut files = Vec::new();
    list(root, Path::new(""), &inside, &mut files).map_err(|error| io(root, &error))?;
    let sealed: Vec<PathBuf> = SOURCES
        .iter()
        .filter(|(chapter, _)| hidden.contains(chapter))
        .flat_map(|(_, names)| names.iter().map(PathBuf::from))
        .collect();
    let stories: Vec<String> = hidden.iter().map(|chapter| format!("chapters/{chapter:02}-")).collect();
    let mut count = 0;
    for file in &files {
        let name = file.to_string_lossy();
        let is_story = stories.iter().any(|story| name.starts_with(story)) && name.ends_with("main.rs");
        if name.ends_with("/solution.rs") || is_story {
            continue;
        }
        let (source, target) = (root.join(file), to.join(file));
        let above = target.parent().unwrap_or(to);
        fs::create_dir_all(above).map_err(|error| io(above, &error))?;
        let write = |text: String| fs::write(&target, text).map_err(|error| io(&target, &error));
        if name == "Cargo.toml" || name.ends_with("/Cargo.toml") {
            write(manifest(&read(&source)?, hidden)?)?;
        } else if name.ends_with("/exercise.toml") {
            write(without_mutants(&read(&source)?))?;
        } else if name.ends_with("/exercise.rs") {
            // Not what stands there, which may be somebody's work, but what belongs there.
            let solution = source.with_file_name("solution.rs");
            let text = read(&solution)?;
            write(cut(&text).map_err(|why| Error::new(step, format!("{}: {why}", solution.display())))?)?;
        } else if name.starts_with("book/src/") && name.ends_with(".md") {
            write(without_stories(&read(&source)?, &stories))?;
        } else if sealed.contains(file) {
            write(seal(&read(&source)?, &target.with_extension("sealed"))?)?;
            count += 1;
        } else {
            fs::copy(&source, &target).map_err(|error| io(&source, &error))?;
        }
        count += 1;
    }
    // Each package with a sealed file unseals its own. One that has a build script does so there.
    let package = |file: &PathBuf| {
        file.ancestors().find(|above| root.join(above).join("Cargo.toml").is_file()).map(Path::to_path_buf)
    };
    for package in sealed.iter().filter_map(package).collect::<BTreeSet<_>>() {
        if root.join(&package).join("build.rs").is_file() {
            continue;
        }
        let build = to.join(package).join("build.rs");
        fs::write(&build, BUILD).map_err(|error| io(&build, &error))?;
        count += 1;
    }
    Ok(count)
}

/// The files of the crate that students get, by their paths in it. Of the tests only what the book's pages show.
fn list(root: &Path, below: &Path, not: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    const LEFT_OUT: [&str; 4] = ["target", ".git", ".cooperage", "book/book"];
    const SHOWN: &str = "tests/snapshots";
    const MUTANTS: &str = "tests/snapshots/mutants";
    let is_shown = |path: &Path| {
        Path::new(SHOWN).starts_with(path) || path.starts_with(SHOWN) && !path.starts_with(MUTANTS)
    };
    let mut entries: Vec<_> = fs::read_dir(root.join(below))?.collect::<std::io::Result<_>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = below.join(entry.file_name());
        if LEFT_OUT.iter().any(|name| path == Path::new(name)) || entry.path() == not {
            continue;
        }
        if path.starts_with("tests") && !is_shown(&path) {
            continue;
        }
        let kind = entry.file_type()?;
        if kind.is_dir() {
            list(root, &path, not, found)?;
        } else if kind.is_file() {
            found.push(path);
        }
    }
    Ok(())
}

/// Cargo.toml without the programs and tests that students do not have.
fn manifest(text: &str, hidden: &[u8]) -> Result<String> {
    let gone = |block: &str| {
        let path = block.lines().find_map(|line| line.strip_prefix("path = \"")).unwrap_or_default();
        // From a package in crates/.
        let path = path.trim_start_matches("../");
        let story =
            |chapter: &u8| path.starts_with(&format!("chapters/{chapter:02}-")) && path.contains("main.rs");
        let is_program = block.starts_with("[[bin]]");
        block.starts_with("[[test]]")
            || block.starts_with("[[bench]]")
            || is_program && (path.contains("/solution.rs") || hidden.iter().any(story))
            || block.starts_with("[dev-dependencies]")
    };
    let blocks: Vec<&str> = text.split("\n\n").collect();
    let kept: Vec<&str> = blocks.into_iter().filter(|block| !gone(block.trim_start())).collect();
    let text = kept.join("\n\n");
    match toml::from_str::<toml::Table>(&text) {
        Ok(_) => Ok(text.trim_end().to_string() + "\n"),
        Err(error) => Err(Error::new("write the students' Cargo.toml", error.to_string())),
    }
}

/// exercise.toml without the wrong answers, which tell much about the right ones.
fn without_mutants(text: &str) -> String {
    let mut kept = String::new();
    let mut in_mutant = false;
    for line in text.lines() {
        if line.starts_with("[[") {
            in_mutant = line.starts_with("[[mutant]]");
        }
        if !in_mutant {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept.trim_end().to_string() + "\n"
}

/// A page of the book that does not include what the edition does not have.
fn without_stories(page: &str, stories: &[String]) -> String {
    let is_gone =
        |line: &str| line.starts_with("{{#include ") && stories.iter().any(|story| line.contains(story));
    let left = |line| if is_gone(line) { "// Left out: your course has it as a task." } else { line };
    page.lines().map(left).map(|line| format!("{line}\n")).collect()
}

/// Writes a source file in a form that nobody reads by accident, and returns what stands in its place.
fn seal(text: &str, to: &Path) -> Result<String> {
    // What stands before the first item cannot be included.
    let head: String =
        text.lines().take_while(|line| line.starts_with("//!")).map(|line| format!("{line}\n")).collect();
    let body = text.get(head.len()..).unwrap_or_default();
    let mut sealed = String::new();
    for (number, byte) in body.bytes().enumerate() {
        sealed.push_str(&format!("{:02x}", byte ^ 0xa5));
        if number % 50 == 49 {
            sealed.push('\n');
        }
    }
    fs::write(to, sealed).map_err(|error| Error::io("seal a source file", to, &error))?;
    let name = to.file_stem().unwrap_or_default().to_string_lossy();
    let head = head.lines().next().unwrap_or("//! A feature of the library.");
    Ok(format!(
        "{head}\n//!\n//! Sealed: your course has it as a task.\n\ninclude!(concat!(env!(\"OUT_DIR\"), \"/{name}.rs\"));\n"
    ))
}

/// The build script of an edition with sealed files.
const BUILD: &str = r#"//! Unseals the library's files that this course has as tasks.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=src");
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    unseal(Path::new("src"), &out)
}

fn unseal(directory: &Path, out: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            unseal(&path, out)?;
        } else if path.extension().is_some_and(|extension| extension == "sealed") {
            let digits: Vec<u8> = fs::read(&path)?.into_iter().filter(u8::is_ascii_hexdigit).collect();
            let value = |digit: u8| (digit as char).to_digit(16).unwrap_or(0) as u8;
            let text: Vec<u8> = digits.chunks_exact(2).map(|two| (value(two[0]) << 4 | value(two[1])) ^ 0xa5).collect();
            let name = path.with_extension("rs");
            fs::write(out.join(name.file_name().unwrap_or_default()), text)?;
        }
    }
    Ok(())
}
"#;

#[cfg(test)]
mod tests {
    use super::{cut, without_mutants, without_stories};

    #[test]
    fn a_page_includes_no_story_that_is_left_out() {
        let page = "```rust,ignore\n{{#include ../../chapters/01-chroot/main.rs}}\n{{#include ../../chapters/02-pid/main.rs}}\n```\n";
        let cut = without_stories(page, &["chapters/01-".to_string()]);
        assert!(!cut.contains("01-chroot") && cut.contains("02-pid"), "{cut}");
    }

    #[test]
    fn an_answer_becomes_a_todo_and_its_helper_goes() {
        let solution = "//! A chapter.\n\nuse x;\n\n/// Task 5.1.\nfn a() {\n    // answer 5.1\n    let x = help();\n    \
                        x\n    // end of answer 5.1\n}\n\n// answer 5.1\nfn help() {}\n// end of answer 5.1\n\nfn b() {}\n";
        let exercise = cut(solution).expect("it can be cut");
        assert!(exercise.contains("fn a() {\n    todo!(\"task 5.1\")\n}\n\nfn b() {}\n"), "{exercise}");
        assert!(!exercise.contains("help"), "{exercise}");
        assert!(exercise.starts_with("//! A chapter.\n#![allow("), "{exercise}");
    }

    #[test]
    fn what_is_open_must_be_closed() {
        assert!(cut("// answer 1.1\n").is_err());
        assert!(cut("// answer 1.1\n// end of answer 1.2\n").is_err());
        assert!(cut("// end of answer 1.2\n").is_err());
    }

    #[test]
    fn mutants_stay_here() {
        let text = "chapter = 1\n[[task]]\nid = \"1.1\"\n[[mutant]]\nname = \"x\"\nfind = \"y\"\n";
        assert_eq!(without_mutants(text), "chapter = 1\n[[task]]\nid = \"1.1\"\n");
    }
}
