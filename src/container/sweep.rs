//! Clearing up: by its own notes at the end of a runtime, and by those of the dead at the start of the next.
//!
//! This stands above the features whose work it undoes.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::net::{network, uplink};
use super::state::claim::Claim;
use super::state::directory::lock;
use super::state::ledger::{self, Ledger, Leftover};
use super::user::range;
use super::{cgroup, pid};
use crate::told::errors::{Error, Result};
use crate::told::explain;

/// Undoes one thing. It is no error if there is nothing to undo.
fn clear(leftover: &Leftover) -> Result<()> {
    match leftover {
        Leftover::Mount(path) => pid::unmount_dead(path),
        Leftover::Directory(path) => match fs::remove_dir_all(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(Error::io("remove a directory that the container had", path, &error))
            }
            _ => Ok(()),
        },
        Leftover::Cgroup(path) => cgroup::destroy(path),
    }
}

/// Is there anything to undo?
fn is_there(leftover: &Leftover) -> bool {
    match leftover {
        Leftover::Mount(path) => pid::is_mounted(path),
        Leftover::Directory(path) | Leftover::Cgroup(path) => path.exists(),
    }
}

// ANCHOR: ledger-end
/// The end of a runtime: what was made last is undone first. A page with something that could not be
/// undone is kept, and the next run tries again.
pub fn settle(ledger: &mut Ledger) {
    let left = ledger.notes().iter().rev().filter(|leftover| clear(leftover).is_err()).count();
    if left == 0 {
        ledger.close();
    }
}
// ANCHOR_END: ledger-end

/// What came of clearing up.
#[derive(Debug, Default)]
pub struct Swept {
    /// What was undone.
    pub undone: Vec<String>,
    /// Pages with a note that this program cannot read: a newer one has written it, and has to undo it.
    pub kept: Vec<PathBuf>,
}

/// Clears up after all dead runtimes.
pub fn sweep() -> Result<Swept> {
    let lock = lock(ledger::LOCK)?;
    sweep_pages(&lock, ledger::all_pages()?)
}

/// Clears up at the start of a runtime, and narrates it.
pub fn sweep_at_start(lock: &Claim) -> Result<()> {
    let swept = sweep_pages(lock, glance(ledger::all_pages()?))?;
    for what in swept.undone {
        explain::remark(&format!("swept {what}, which a killed runtime had left"));
    }
    for page in swept.kept {
        explain::remark(&format!("kept {}: a newer version of this program wrote it", page.display()));
    }
    Ok(())
}

/// A few of the pages, others each time. Where hundreds of runtimes are alive, looking at all their pages would
/// cost the next one more than all the rest of its start; so no dead one is overlooked for long, and the living
/// are not asked for ever.
fn glance(mut pages: Vec<PathBuf>) -> Vec<PathBuf> {
    const GLANCE: usize = 16;
    let first = std::process::id() as usize % pages.len().max(1);
    pages.rotate_left(first);
    pages.truncate(GLANCE);
    pages
}

// ANCHOR: ledger-sweep
/// Clears up by these pages, as far as their writers are dead.
fn sweep_pages(_: &Claim, pages: Vec<PathBuf>) -> Result<Swept> {
    let mut swept = Swept::default();
    let mut somebody_died = false;
    for page in pages {
        let Some(claim) = Claim::inherit(&page) else { continue }; // its writer is alive
        somebody_died = true;
        if sweep_page(&page, &mut swept) {
            claim.remove();
        }
    }
    if somebody_died {
        range::sweep()?;
        uplink::sweep()?;
    }
    if network::sweep(somebody_died)? {
        swept.undone.push("the bridge".to_string());
    }
    Ok(swept)
}

/// Undoes what a page says. False if something is left to do: then the page is kept for another run.
fn sweep_page(page: &Path, swept: &mut Swept) -> bool {
    let mut all_clear = true;
    let notes = ledger::read(page);
    if notes.contains(&None) {
        all_clear = false;
        swept.kept.push(page.to_path_buf());
    }
    for leftover in notes.into_iter().flatten() {
        let was_there = is_there(&leftover);
        match clear(&leftover) {
            // The killed runtime's container may be dying still: then it is for the next run.
            Ok(()) if matches!(&leftover, Leftover::Mount(path) if pid::is_alive(path)) => all_clear = false,
            Ok(()) if was_there => swept.undone.push(leftover.to_string()),
            Ok(()) => {}
            // Kept for a run that may do it: this one may lack the right.
            Err(_) => all_clear = false,
        }
    }
    all_clear
}
// ANCHOR_END: ledger-sweep

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_with_a_line_of_tomorrow_is_kept() {
        let directory = tempfile::tempdir().expect("a directory");
        let (page, work) = (directory.path().join("1.0"), directory.path().join("work"));
        fs::create_dir(&work).expect("writable");
        let known = serde_json::to_string(&Leftover::Directory(work.clone())).expect("JSON");
        fs::write(&page, format!("{{\"Volume\":\"/x\"}}\n{known}\n")).expect("writable");
        let mut swept = Swept::default();
        assert!(!sweep_page(&page, &mut swept), "something is left to do");
        assert!(!work.exists(), "what is known is undone all the same");
        assert_eq!((swept.undone.len(), &swept.kept), (1, &vec![page.clone()]));
        // The next run says once more that the page is kept, and of what is gone nothing.
        assert!(!sweep_page(&page, &mut swept));
        assert_eq!((swept.undone.len(), swept.kept.len()), (1, 2));
        // Without that line the page is done with.
        fs::write(&page, format!("{known}\n")).expect("writable");
        assert!(sweep_page(&page, &mut swept));
    }

    #[test]
    fn a_start_looks_at_some_pages_only() {
        let pages: Vec<PathBuf> = (0..40).map(|number| PathBuf::from(number.to_string())).collect();
        assert_eq!(glance(pages).len(), 16);
        assert_eq!(glance(Vec::new()).len(), 0);
    }
}
