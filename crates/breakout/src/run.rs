//! Many attacks on many chapters.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::cell::{self, Cell};
use super::job::Job;
use super::peer::Peer;
use super::{Attack, CHAPTERS, OF_THE_MACHINE};
use cooperage::told::errors::{Error, Result};
use cooperage::workshop::chapters;
use cooperage::workshop::rootfs::{self, Rootfs};
use grade::compile;

const STEP: &str = "prepare the attacks";

/// What all attacks of a run share: the programs, the root filesystem, and a directory for their labs.
pub struct Range {
    programs: PathBuf,
    rootfs: PathBuf,
    directory: PathBuf,
    _lock: Rootfs,
}

impl Range {
    /// Builds the chapters if cargo has started this program, so that it is the code as it is now that is
    /// attacked; finds the root filesystem.
    pub fn new() -> Result<Range> {
        let program = std::env::current_exe().map_err(|error| Error::io(STEP, "/proc/self/exe", &error))?;
        let programs = program.parent().unwrap_or(Path::new("/")).to_path_buf();
        let chapters: Vec<_> = (1..=CHAPTERS).map(|number| format!("chapter{number:02}")).collect();
        if std::env::var_os("CARGO").is_some() && programs.ends_with("debug") {
            let names: Vec<_> = chapters.iter().map(String::as_str).collect();
            for (name, built) in compile::own(&chapters::workbook(), &names)? {
                built.map_err(|error| Error::new(format!("build {name}"), error))?;
            }
        }
        for name in &chapters {
            if !programs.join(name).is_file() {
                let detail = format!("{} is not there", programs.join(name).display());
                return Err(Error::new(STEP, detail).remedy("cargo build --bins"));
            }
        }
        let rootfs = Rootfs::find(None)?;
        let directory = scratch(&program)?;
        let mut range = Range { programs, rootfs: rootfs.path().to_path_buf(), directory, _lock: rootfs };
        range.bring_along(&chapters)?;
        Ok(range)
    }

    /// What is in a directory that a lab has fresh is put where the lab sees it.
    fn bring_along(&mut self, chapters: &[String]) -> Result<()> {
        let hidden =
            |path: &Path| ["/tmp", "/var/tmp", "/run", "/dev"].iter().any(|fresh| path.starts_with(fresh));
        if hidden(&self.programs) {
            let to = self.directory.join("programs");
            fs::create_dir(&to).map_err(|error| Error::io(STEP, &to, &error))?;
            for name in chapters.iter().map(String::as_str).chain(["breakout"]) {
                let from = self.programs.join(name);
                fs::copy(&from, to.join(name)).map_err(|error| Error::io(STEP, &from, &error))?;
            }
            self.programs = to;
        }
        if hidden(&self.rootfs) {
            let to = self.directory.join("rootfs");
            rootfs::copy(&self.rootfs, &to)?;
            self.rootfs = to;
        }
        Ok(())
    }

    fn job(&self, attack: &Attack, chapter: u8, user: bool, peer: Option<&Peer>) -> Job {
        Job {
            attack: attack.name.to_string(),
            chapter,
            user,
            peer: peer.cloned(),
            programs: self.programs.clone(),
            rootfs: self.rootfs.clone(),
        }
    }

    /// Every attack on every one of the chapters, two at a time; in the order of attacks and chapters. `tell`
    /// hears how many are done, of how many.
    pub fn matrix(
        &self,
        attacks: &[&Attack],
        chapters: &[u8],
        user: bool,
        tell: impl Fn(usize, usize) + Sync,
    ) -> Vec<Cell> {
        let jobs = attacks
            .iter()
            .flat_map(|attack| chapters.iter().map(|&chapter| self.job(attack, chapter, user, None)));
        self.all(jobs.collect(), tell)
    }

    /// Every attack on root's container of the newest chapter, and on those of other runtimes; but none that reaches for the
    /// whole machine.
    pub fn peers(
        &self,
        attacks: &[&Attack],
        peers: &[Peer],
        tell: impl Fn(usize, usize) + Sync,
    ) -> Vec<Cell> {
        let contenders = || [None].into_iter().chain(peers.iter().map(Some));
        let jobs = attacks
            .iter()
            .filter(|attack| !OF_THE_MACHINE.contains(&attack.name))
            .flat_map(|attack| contenders().map(|peer| self.job(attack, CHAPTERS, false, peer)));
        self.all(jobs.collect(), tell)
    }

    /// Two at a time; what came of them is in their order.
    fn all(&self, jobs: Vec<Job>, tell: impl Fn(usize, usize) + Sync) -> Vec<Cell> {
        const AT_ONCE: usize = 2;
        let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let cells = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                scope.spawn(|| {
                    loop {
                        let place = next.fetch_add(1, Ordering::Relaxed);
                        let Some(job) = jobs.get(place) else { break };
                        let cell = cell::run(job, &self.directory);
                        if let Ok(mut cells) = cells.lock() {
                            cells.push((place, cell));
                        }
                        tell(done.fetch_add(1, Ordering::Relaxed) + 1, jobs.len());
                    }
                });
            }
        });
        let mut cells = cells.into_inner().unwrap_or_default();
        cells.sort_by_key(|(place, _)| *place);
        cells.into_iter().map(|(_, cell)| cell).collect()
    }
}

impl Drop for Range {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// A directory for the labs to work in: it stays writable there, so it is empty and goes.
fn scratch(program: &Path) -> Result<PathBuf> {
    let name = format!("breakout-{}", std::process::id());
    let target = program.ancestors().find(|directory| directory.join("CACHEDIR.TAG").is_file());
    if let Some(own) = target.map(|target| target.join("breakout").join(&name))
        && fs::create_dir_all(&own).is_ok()
    {
        return Ok(own);
    }
    let path = std::env::temp_dir().join(format!("cooperage-{name}"));
    fs::create_dir_all(&path).map_err(|error| Error::io(STEP, &path, &error))?;
    Ok(path)
}
