//! What the book shows: each session on its pages is typed in a lab, and what comes back is the snapshot that the page
//! includes. See tests/support/session.rs for how a session is written.
//!
//! To add one: put it into tests/pages/chapter05.rs, run
//!
//!     INSTA_UPDATE=always cargo test --test pages page05
//!
//! read tests/snapshots/pages/05-NAME.snap, and include it in book/src/05-network.md:
//!
//!     ```console
//!     {{#include ../../tests/snapshots/pages/05-NAME.snap:4:}}
//!     ```

#![allow(clippy::panic)] // that is how a test fails

mod support;

#[path = "pages/mod.rs"]
mod pages;

use std::fs;
use std::path::Path;

use cooperage::workshop::lab::harness;
use grade::compile;
use libtest_mimic::Arguments;
use pages::sessions;
use support::Who;
use support::session::Session;

fn main() -> std::process::ExitCode {
    let sessions = sessions();
    if !harness::is_started_again() {
        for (index, session) in sessions.iter().enumerate() {
            let twice = sessions[..index].iter().any(|other| other.name() == session.name());
            assert!(!twice && session.name().starts_with("page"), "a name that is taken: {}", session.name());
        }
        build_the_broken(&sessions);
    }
    // For whoever runs this where nothing can be built, or only slowly.
    if std::env::var_os("COOPERAGE_BUILD_ONLY").is_some() {
        return std::process::ExitCode::SUCCESS;
    }
    support::main(sessions.iter().map(|session| session.case(play)).chain(pages::others()).collect())
}

fn play(_: Who) {
    let case = support::current_case().unwrap_or_default();
    let name = case.split("::").next().unwrap_or_default();
    let session = sessions().into_iter().find(|session| session.name() == name).expect("it was listed");
    if let Some(change) = session.change() {
        support::is_snapshot(&format!("{}-change", session.snapshot()), &[], change);
    }
    session.play();
}

/// Builds the programs of the sessions in which something is broken, as far as they will run.
fn build_the_broken(sessions: &[Session]) {
    let arguments = Arguments::from_args();
    let root = support::repository();
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("broken");
    let mut files = Vec::new();
    for session in sessions {
        let wanted = arguments.filter.as_ref().is_none_or(|filter| session.name().contains(filter.as_str()));
        let Some((name, text)) = session.broken_program().filter(|_| wanted && !arguments.list) else {
            continue;
        };
        let file = place.join(format!("{name}.rs"));
        if !support::write_if_other(&file, &text) && is_newer(&name, "chapter01") {
            continue; // nor ask cargo, which there may not be: in a virtual machine, or for another user
        }
        files.push((name, file));
    }
    if files.is_empty() {
        return;
    }
    let built = compile::foreign(root, &place, &files).unwrap_or_else(|error| panic!("{error}"));
    for (name, result) in built {
        if let Err(error) = result {
            panic!("{name} can't be built: {error}");
        }
    }
}

/// Is this program at least as new as the other? All of the crate's are built anew when its library changes.
fn is_newer(name: &str, other: &str) -> bool {
    let built = support::built();
    let time = |path: &Path| fs::metadata(path).and_then(|found| found.modified()).ok();
    let program = built.parent().map(|target| target.join("debug").join(name));
    program.and_then(|program| time(&program)).is_some_and(|when| Some(when) >= time(&built.join(other)))
}
