//! The book's pages hold what they say: nothing on them is copied, made by hand or missing.
//!
//! Needs neither mdBook nor a lab. `cargo test --test book 05` looks at one page.

#![allow(clippy::panic)] // that is how a test fails

mod support;

#[path = "book/made.rs"]
mod made;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

/// The crate's directory.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files below a directory whose names end so, sorted.
fn files_below(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files_below(&path, extension));
        } else if path.extension().is_some_and(|is| is == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn main() -> ExitCode {
    let mut trials = Vec::new();
    let mut add = |name: String, check: Box<dyn FnOnce() + Send>| {
        let check = move || {
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(check))
                .map_err(|_| Failed::from("see above"))
        };
        trials.push(Trial::test(name, check));
    };
    for chapter in 1..=7 {
        if chapter > 1 {
            add(format!("made::difference_{chapter:02}"), Box::new(move || made::difference(chapter)));
        }
        add(format!("made::exercises_{chapter:02}"), Box::new(move || made::exercises(chapter)));
    }
    add("made::system_calls".into(), Box::new(made::system_calls));
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
