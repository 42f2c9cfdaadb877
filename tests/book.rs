//! The book's pages hold what they say: nothing on them is copied, made by hand or missing.
//!
//! Needs neither mdBook nor a lab. `cargo test --test book 05` looks at one page.

#![allow(clippy::panic)] // that is how a test fails

mod support;

#[path = "book/checks.rs"]
mod checks;
#[path = "book/made.rs"]
mod made;
#[path = "book/page.rs"]
mod page;
#[path = "pages/mod.rs"]
mod pages;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use cooperage::workshop::chapters;
use libtest_mimic::{Arguments, Failed, Trial};
use page::Page;

/// The crate's directory.
fn root() -> &'static Path {
    support::repository()
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
    // What a check has to say is shown once, with its name.
    std::panic::set_hook(Box::new(|_| {}));
    let mut trials = Vec::new();
    let mut add = |name: String, check: Box<dyn FnOnce() + Send>| {
        let check = move || {
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(check)).map_err(|said| {
                let text = said.downcast_ref::<String>().cloned();
                Failed::from(
                    text.or(said.downcast_ref::<&str>().map(|text| text.to_string())).unwrap_or_default(),
                )
            })
        };
        trials.push(Trial::test(name, check));
    };
    for chapter in chapters::numbers() {
        if chapter > 1 && chapters::containers().contains(&chapter) {
            add(format!("made::difference_{chapter:02}"), Box::new(move || made::difference(chapter)));
        }
        add(format!("made::exercises_{chapter:02}"), Box::new(move || made::exercises(chapter)));
    }
    add("made::system_calls".into(), Box::new(made::system_calls));

    add("summary_and_files_agree".into(), Box::new(checks::summary_and_files_agree));
    add("pages_are_doctests".into(), Box::new(checks::pages_are_doctests));
    add("regions_are_used".into(), Box::new(checks::regions_are_used));
    add(
        "snapshots_are_made_and_shown".into(),
        Box::new(|| checks::snapshots_are_made_and_shown(&pages::sessions())),
    );
    for path in files_below(&page::source_directory().join("pictures"), "svg") {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        add(format!("picture::{name}"), Box::new(move || checks::picture(&path)));
    }
    for name in checks::listed() {
        let mut check = |what: &str, check: fn(&Page)| {
            let page = name.clone();
            let label = format!("{}::{what}", name.trim_end_matches(".md"));
            add(label, Box::new(move || check(&Page::read(&page))));
        };
        check("includes", checks::includes);
        check("links", checks::links);
        check("names", checks::names);
        if chapters::CHAPTERS.iter().any(|chapter| name == format!("{}.md", chapter.folder)) {
            check("sections", checks::sections);
            check("amounts", checks::amounts);
        } else {
            check("is_written", checks::is_written);
        }
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
