//! What does not take time: memory, the size of the program, and the reader's wait for a build.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::Outcome;
use super::contenders::{CHAPTERS, LIMITS, small};
use super::table::Table;

/// Peak memory of the runtime while its container lives, and how large the program is.
pub fn memory_and_size() -> Outcome<Table> {
    let mut table = Table::new(
        "memory",
        "The runtime's own memory while its container lives, and the size of its program",
        &["chapter 7", "peak, KiB", "of that its own", "program, KB", "goal"],
    );
    let mut add = |name: &str, program: Option<PathBuf>, goal: &str| -> Outcome {
        let Some(program) = program else { return Ok(()) };
        let [peak, own] = memory_of(&program)?;
        let size = std::fs::metadata(&program)?.len() / 1000;
        table.row(&[name, &peak.to_string(), &own.to_string(), &size.to_string(), goal]);
        Ok(())
    };
    add("as shipped: dynamic, glibc", Some(CHAPTERS[6].into()), "1536 KiB, 1200 KB")?;
    add("`just small`: static, glibc", small("gnu", "chapter07"), "1536 KiB, 600 KB")?;
    add("`just small`: static, musl", small("musl", "chapter07"), "1536 KiB, 600 KB")?;
    table.print();
    Ok(table)
}

/// VmHWM and RssAnon, in KiB: see proc_pid_status(5).
fn memory_of(program: &Path) -> Outcome<[u64; 2]> {
    let mut runtime = Command::new(program)
        .args(LIMITS.split(' '))
        .args(["--network", "none", "--", "sleep", "1"])
        .stdin(Stdio::null())
        .spawn()?;
    std::thread::sleep(Duration::from_millis(500));
    let status = std::fs::read_to_string(format!("/proc/{}/status", runtime.id()))?;
    runtime.wait()?;
    let value = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    };
    Ok([value("VmHWM:"), value("RssAnon:")])
}

/// How long a reader waits for cargo. In a directory of its own, so that everything is built.
pub fn builds() -> Outcome<Table> {
    let directory = tempfile::tempdir()?;
    let cargo = |arguments: &[&str]| {
        let begun = Instant::now();
        let status = Command::new(env!("CARGO"))
            .args(["build", "--quiet"])
            .args(arguments)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env("CARGO_TARGET_DIR", directory.path())
            .status();
        let seconds = begun.elapsed().as_secs_f64();
        match status {
            Ok(status) if status.success() => Ok(format!("{seconds:.1}")),
            other => Err(format!("cargo build {arguments:?}: {other:?}")),
        }
    };
    let touch = |file: &str| {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        std::fs::File::open(file)?.set_modified(std::time::SystemTime::now())
    };
    let mut table = Table::new("builds", "A reader's wait for cargo, in seconds", &["", "seconds"]);
    table.row(&["the first `cargo run --bin chapter05`: everything", &cargo(&["--bin", "chapter05"])?]);
    table.row(&["the first `cargo run --bin exercise05` after it", &cargo(&["--bin", "exercise05"])?]);
    touch("chapters/05-network/exercise.rs")?;
    table.row(&["after a change in exercise.rs", &cargo(&["--bin", "exercise05"])?]);
    touch("src/lib.rs")?;
    table.row(&["after a change in the library", &cargo(&["--bin", "exercise05"])?]);
    table.row(&["all programs, after that", &cargo(&["--bins"])?]);
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--edges", "normal,build", "--prefix", "none", "--format", "{p}"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()?;
    let tree = String::from_utf8_lossy(&tree.stdout).into_owned();
    let crates: std::collections::BTreeSet<&str> =
        tree.lines().map(|line| line.trim_end_matches(" (*)")).collect();
    let cores = std::thread::available_parallelism()?;
    table.remark(format!("{} crates in the tree, this one included; {cores} cores.", crates.len()));
    table.print();
    Ok(table)
}
