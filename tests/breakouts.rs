//! The attacks on the chapters' containers: which of them gets out of which, as a table that is a snapshot; that
//! they obey nobody outside a lab, end in time, and leave the machine as it was.

#![allow(clippy::panic)] // that is how a test fails

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use breakout::cell::{Cell, Outcome};
use breakout::peer::{PEERS, Peer};
use breakout::{ATTACKS, Attack, CHAPTERS, End, OF_THE_MACHINE, table};
use cooperage::workshop::doctor;
use support::{Case, ROOT, ROOT_ITSELF, USER, is_snapshot};

fn main() -> std::process::ExitCode {
    support::on_the_machine(vec![
        Case::new("matrix", ROOT, |_| matrix("root", root())).needs(&[ROOT_ITSELF]),
        Case::new("matrix", USER, |_| matrix("user", user())),
        // The pages' tables have version 1's rows as well.
        Case::new("rows_for_the_pages", ROOT, |_| rows_for_the_pages()).needs(&[ROOT_ITSELF, "cgroup-v1"]),
        Case::new("what_the_appendix_shows", ROOT, |_| what_the_appendix_shows()).needs(&[ROOT_ITSELF]),
        Case::new("each_attack_ends_where_it_says", ROOT, |_| each_ends_where_it_says())
            .needs(&[ROOT_ITSELF]),
        // Its column of chapter 9 is version 1's too.
        Case::new("other_runtimes", ROOT, |_| other_runtimes()).needs(&[
            ROOT_ITSELF,
            "cgroup-v1",
            "program-runc",
            "program-crun",
        ]),
        Case::new("obeys_nobody_outside_a_lab", ROOT, |_| obeys_nobody_outside_a_lab()),
        Case::new("ends_in_time", ROOT, |_| ends_in_time()),
        Case::new("wrong_command_lines", ROOT, |_| wrong_command_lines()),
    ])
}

/// The program, which takes the chapters as they are built, as tests do everywhere.
fn breakout(arguments: &[&str]) -> Output {
    let mut command = Command::new(support::built().join("breakout"));
    command.args(arguments).env_remove("CARGO").env("NO_COLOR", "1").stdin(Stdio::null());
    command.output().expect("it starts")
}

fn cells(arguments: &[&str]) -> Vec<Cell> {
    let Output { stdout, stderr, .. } = breakout(&[arguments, &["--format", "json"]].concat());
    let said = String::from_utf8_lossy(&stderr);
    serde_json::from_slice(&stdout).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {said}"))
}

fn root() -> &'static [Cell] {
    static CELLS: OnceLock<Vec<Cell>> = OnceLock::new();
    CELLS.get_or_init(|| {
        let before = Machine::settled();
        let cells = cells(&["matrix"]);
        assert_eq!(Machine::now(), before, "the machine is not as it was");
        cells
    })
}

fn user() -> &'static [Cell] {
    static CELLS: OnceLock<Vec<Cell>> = OnceLock::new();
    CELLS.get_or_init(|| {
        let before = Machine::settled();
        let cells = cells(&["matrix", "--user"]);
        assert_eq!(Machine::now(), before, "the machine is not as it was");
        cells
    })
}

fn matrix(who: &str, cells: &[Cell]) {
    for cell in cells {
        assert_ne!(
            cell.outcome,
            Outcome::Error,
            "{} against chapter {}: {}",
            cell.attack,
            cell.chapter,
            cell.text
        );
    }
    assert_eq!(cells.len(), ATTACKS.len() * usize::from(CHAPTERS));
    // With version 2 an ordinary user can have limits, if a cgroup was delegated.
    let delegated = who == "user" && !nix::unistd::geteuid().is_root() && has("cgroup-pids");
    let host = match (version_1(), delegated) {
        (true, _) => "",
        (false, true) => "-v2-delegated",
        (false, false) => "-v2",
    };
    is_snapshot(&format!("breakouts/{who}{host}"), &[], table::markdown(&as_elsewhere(cells)));
    // What reaches for the whole machine has cells in one that is thrown away.
    let about_machine = |cell: &&Cell| OF_THE_MACHINE.contains(&cell.attack.as_str());
    let rows: Vec<Cell> = cells.iter().filter(about_machine).cloned().collect();
    if rows.iter().any(|cell| cell.outcome != Outcome::Absent) {
        is_snapshot(&format!("breakouts/machine-{who}"), &[], table::markdown(&rows));
    }
    if delegated {
        let about_limits = |cell: &&Cell| {
            ["fork-bomb", "memory-bomb", "cpu-hog", "cgroup-limit"].contains(&cell.attack.as_str())
        };
        let rows: Vec<Cell> = cells.iter().filter(about_limits).cloned().collect();
        is_snapshot("breakouts/limits-v2-delegated", &[], table::markdown(&rows));
    }
}

/// Since Linux 6.2 a kernel may keep TIOCSTI for root, and says EIO to everybody else. The tables are those of a kernel that
/// does not: there is nothing to be seen of a container in this.
fn as_elsewhere(cells: &[Cell]) -> Vec<Cell> {
    let setting = fs::read_to_string("/proc/sys/dev/tty/legacy_tiocsti").unwrap_or_default();
    let kept = |cell: &Cell| {
        setting.trim() == "0" && cell.attack == "terminal-input" && cell.errno.as_deref() == Some("EIO")
    };
    let shown = |cell: &Cell| match kept(cell) {
        true => Cell { outcome: Outcome::Escaped, errno: None, ..cell.clone() },
        false => cell.clone(),
    };
    cells.iter().map(shown).collect()
}

fn version_1() -> bool {
    has("cgroup-v1")
}

/// Has this machine that feature? The doctor's program is asked: the function tries it in a child process, and does not do so
/// in a process that has threads, such as this one.
fn has(feature: &str) -> bool {
    static FOUND: OnceLock<Vec<doctor::Finding>> = OnceLock::new();
    let found = FOUND.get_or_init(|| {
        let said = Command::new(support::built().join("doctor")).arg("--json").output().expect("the doctor");
        serde_json::from_slice(&said.stdout).expect("JSON")
    });
    found.iter().any(|found| found.name == feature && found.ok)
}

fn rows_for_the_pages() {
    for chapter in 1..=CHAPTERS {
        let rows = table::chapter(&as_elsewhere(root()), &as_elsewhere(user()), chapter);
        is_snapshot(&format!("breakouts/{chapter:02}"), &[], rows);
    }
}

fn what_the_appendix_shows() {
    is_snapshot("breakouts/attacks", &[], table::attacks());
    let mut shown = String::new();
    for line in ["chroot --chapter 1", "chroot --chapter 3", "hostname --chapter 3 --user", "hostname"] {
        let output = breakout(&line.split(' ').collect::<Vec<_>>());
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        shown +=
            &format!("$ cargo run --bin breakout -- {line}\n{}", String::from_utf8_lossy(&output.stdout));
    }
    is_snapshot("breakouts/shown", &[], shown);
}

/// The chapter that is said to stop an attack does, and all after it; and before, it works.
fn each_ends_where_it_says() {
    for attack in ATTACKS {
        let worked = |from: u8, to: u8| {
            let escaped = |cell: &&Cell| {
                cell.attack == attack.name
                    && cell.outcome == Outcome::Escaped
                    && (from..=to).contains(&cell.chapter)
            };
            root().iter().chain(user()).filter(escaped).count()
        };
        let Attack { name, end, .. } = attack;
        // Version 2 has no release agent. And as systemd mounts it (nsdelegate), nobody lifts the limits of the
        // cgroup that is the root of his cgroup namespace.
        if ["release-agent", "cgroup-limit"].contains(name) && !version_1() {
            continue;
        }
        // What is tried in the virtual machine alone.
        let cells = || root().iter().chain(user()).filter(|cell| cell.attack == *name);
        if cells().all(|cell| cell.outcome == Outcome::Absent) {
            continue;
        }
        match *end {
            End::Chapter(number) => {
                assert!(worked(1, number - 1) > 0, "{name} never worked before chapter {number}");
                assert_eq!(worked(number, CHAPTERS), 0, "{name} still works in or after chapter {number}");
            }
            End::Later(number) => {
                assert!(number > CHAPTERS, "{name}: chapter {number} is there");
                assert!(worked(CHAPTERS, CHAPTERS) > 0, "{name} does not work against chapter {CHAPTERS}");
            }
            End::Never => assert_eq!(worked(1, CHAPTERS), 0, "{name} works"),
        }
        assert!(!attack.because.is_empty() && !attack.won.is_empty() && !attack.title.is_empty(), "{name}");
    }
}

/// What runc's and crun's own `spec` lets through. The appendix shows these of certain versions; others are tried, and may lose
/// other rows.
fn other_runtimes() {
    let before = Machine::settled();
    let cells = cells(&["peers"]);
    assert_eq!(Machine::now(), before, "the machine is not as it was");
    assert_eq!(cells.len(), (ATTACKS.len() - OF_THE_MACHINE.len()) * (1 + PEERS.len()));
    for Cell { attack, peer, outcome, text, .. } in &cells {
        assert_ne!(*outcome, Outcome::Error, "{attack} against {peer:?}: {text}");
        assert!(
            peer.is_some() || *outcome != Outcome::Escaped,
            "{attack} against the newest chapter: {text}"
        );
    }
    let peers = PEERS.map(|name| Peer::find(name).expect("the doctor found it"));
    let table = table::peers(&cells, &peers);
    let (head, _) = table.split_once('\n').expect("a table");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/snapshots/breakouts/peers.snap");
    if fs::read_to_string(&path).is_ok_and(|shown| !shown.contains(head))
        && std::env::var_os("INSTA_UPDATE").is_none()
    {
        println!("not compared, for the book shows other versions:\n{table}");
        return;
    }
    is_snapshot("breakouts/peers", &[], table);
}

fn obeys_nobody_outside_a_lab() {
    for attack in ATTACKS {
        let output = breakout(&["@attack", attack.name, "ticket="]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(125), 0), "{}: {said}", attack.name);
        assert!(said.contains("not an arena"), "{}: {said}", attack.name);
    }
    let output = breakout(&["@job"]);
    assert_eq!(output.status.code(), Some(125));
    assert!(String::from_utf8_lossy(&output.stderr).contains("this is not a lab"));
    assert!(!Path::new("/tmp/arena").exists());
}

fn ends_in_time() {
    let cells = cells(&["sleeper", "--chapter", &CHAPTERS.to_string()]);
    assert_eq!((cells.len(), cells[0].outcome), (1, Outcome::Error), "{cells:?}");
    assert!(cells[0].text.contains("it took too long"), "{cells:?}");
}

fn wrong_command_lines() {
    let beyond = (CHAPTERS + 1).to_string();
    for arguments in [
        &["no-such-attack"][..],
        &["matrix", "--chapter", &beyond],
        &[],
        &["matrix", "--format", "xml"],
        &["peers", "--runtime", "youki"],
    ] {
        let output = breakout(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty() && output.stdout.is_empty(), "{arguments:?}");
    }
    let list = breakout(&["list"]);
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    assert_eq!(list.lines().count(), ATTACKS.len(), "{list}");
}

/// What an attack that got out of its lab as well could have changed.
#[derive(Debug, PartialEq, Eq)]
struct Machine {
    mounts: String,
    links: String,
    names: Vec<String>,
    settings: Vec<String>,
    ipc: Vec<String>,
    files: Vec<(PathBuf, u64, u32)>,
}

impl Machine {
    /// After what is made once and kept: the root filesystem.
    fn settled() -> Machine {
        assert_eq!(cells(&["chroot", "--chapter", "1"]).len(), 1);
        Machine::now()
    }

    fn now() -> Machine {
        use std::os::unix::fs::{MetadataExt, PermissionsExt};
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let device = |line: &str| line.split(':').next().unwrap_or_default().trim().to_string();
        let built = support::built();
        let mut files = Vec::new();
        let mut note = |path: PathBuf| {
            if let Ok(found) = fs::symlink_metadata(&path) {
                files.push((path, found.len() ^ found.mtime() as u64, found.permissions().mode()));
            }
        };
        for number in 1..=CHAPTERS {
            note(built.join(format!("chapter{number:02}")));
        }
        for entry in fs::read_dir(built.join("../cooperage")).into_iter().flatten().flatten() {
            for name in ["etc/motd", "etc/passwd", "usr/bin/busybox", "usr/bin/witness", "breakout-node"] {
                note(entry.path().join(name));
            }
        }
        files.sort();
        let ours =
            |text: String, word: &str| text.lines().filter(|line| line.contains(word)).count().to_string();
        Machine {
            mounts: read("/proc/self/mountinfo"),
            links: read("/proc/net/dev").lines().skip(2).map(device).collect::<Vec<_>>().join(" "),
            names: vec![read("/proc/sys/kernel/hostname"), read("/etc/hostname")],
            settings: [
                "kernel/core_pattern",
                "net/ipv4/ip_default_ttl",
                "net/ipv4/ip_forward",
                "kernel/shmmax",
                "fs/suid_dumpable",
                "dev/tty/legacy_tiocsti",
            ]
            .iter()
            .map(|name| read(&format!("/proc/sys/{name}")))
            .collect(),
            ipc: vec![
                ours(read("/proc/sysvipc/shm"), &format!(" {} ", breakout::victim::KEY)),
                ours(read("/proc/net/unix"), "@cooperage-canary"),
                Path::new("/dev/shm/cooperage-canary").exists().to_string(),
            ],
            files,
        }
    }
}
