//! Chapter 10 beside crun and runc: the same bundle for all three, with everything that Docker's config.json asks for.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cooperage::workshop::rootfs::Rootfs;
use serde_json::{Value, json};

use super::contenders::{find, oci};
use super::table::Table;
use super::{Options, Outcome, REST, median};

/// A runtime, and where it notes its containers.
struct Runtime {
    name: &'static str,
    program: PathBuf,
    root: PathBuf,
}

impl Runtime {
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(&self.root).args(words).stdin(Stdio::null());
        command
    }

    fn must(&self, words: &[&str]) -> Outcome {
        let status = self.command(words).stdout(Stdio::null()).status()?;
        if status.success() { Ok(()) } else { Err(format!("{} {words:?}: {status}", self.name).into()) }
    }
}

/// What is timed.
#[derive(Clone, Copy, PartialEq)]
enum Race {
    Run,
    CreateStartDelete,
    Exec,
    State,
}

pub fn race(options: &Options) -> Outcome<Table> {
    let program = build()?;
    let scratch = tempfile::tempdir_in("/run")?;
    let rootfs = Rootfs::find(None)?;
    let bundle = |name: &str, command: &[&str]| -> Outcome<PathBuf> {
        let directory = scratch.path().join(name);
        std::fs::create_dir(&directory)?;
        std::fs::write(directory.join("config.json"), config(rootfs.path(), command)?.to_string())?;
        Ok(directory)
    };
    let (short, long) = (bundle("true", &["/bin/true"])?, bundle("sleep", &["/bin/sleep", "100000"])?);
    let mut runtimes = vec![Runtime { name: "chapter 10", program, root: scratch.path().join("chapter10") }];
    for name in ["crun", "runc"] {
        runtimes.extend(find(name).map(|program| Runtime {
            name,
            program,
            root: scratch.path().join(format!("root-{name}")),
        }));
    }
    for runtime in &runtimes {
        runtime.must(&["run", "--detach", "--bundle", &text(&long), "lives"])?;
    }

    let mut head = vec!["".to_string()];
    for runtime in &runtimes {
        head.push(format!("{}, ms", runtime.name));
    }
    head.extend(runtimes[1..].iter().map(|runtime| format!("of {}", runtime.name)));
    head.push("goal".to_string());
    let head: Vec<&str> = head.iter().map(String::as_str).collect();
    let mut table = Table::new("oci", "The same bundle, with all that Docker asks for", &head);
    let rows = [
        (Race::Run, REST, "run, cold", "0.25 of crun, 0.12 of runc"),
        (Race::Run, Duration::ZERO, "run, hot", "0.4 of crun"),
        (Race::CreateStartDelete, REST, "create, start, delete, cold", "0.25 of crun, 0.12 of runc"),
        (Race::CreateStartDelete, Duration::ZERO, "create, start, delete, hot", "0.4 of crun"),
        (Race::Exec, Duration::ZERO, "exec", "0.35 of crun"),
        (Race::State, Duration::ZERO, "state", "1.5 ms"),
    ];
    for (which, rest, name, goal) in rows {
        let mut times = vec![Vec::new(); runtimes.len()];
        for round in 0..=options.rounds {
            for offset in 0..runtimes.len() {
                let index = (round + offset) % runtimes.len();
                std::thread::sleep(rest);
                let id = format!("c{round}");
                let begun = Instant::now();
                once(&runtimes[index], which, &id, (&short, &long))?;
                // The first round is what is only done the first time.
                if round > 0 {
                    times[index].push(begun.elapsed().as_secs_f64() * 1e3);
                }
            }
        }
        let mut row = vec![name.to_string()];
        row.extend(times.iter().map(|times| format!("{:.2}", median(times.clone()))));
        row.extend(times[1..].iter().map(|other| {
            let ratios = times[0].iter().zip(other).map(|(one, other)| one / other).collect();
            format!("{:.2}", median(ratios))
        }));
        row.push(goal.to_string());
        table.row(&row.iter().map(String::as_str).collect::<Vec<_>>());
    }
    let mut row = vec!["most memory of run, KiB".to_string()];
    for runtime in &runtimes {
        row.push(memory(runtime, &short)?.to_string());
    }
    row.extend(runtimes[1..].iter().map(|_| "".to_string()));
    row.push("crun's".to_string());
    table.row(&row.iter().map(String::as_str).collect::<Vec<_>>());
    for runtime in &runtimes {
        runtime.must(&["delete", "--force", "lives"])?;
    }
    table.print();
    Ok(table)
}

fn once(runtime: &Runtime, which: Race, id: &str, (short, long): (&Path, &Path)) -> Outcome {
    match which {
        Race::Run => runtime.must(&["run", "--bundle", &text(short), id]),
        Race::CreateStartDelete => {
            runtime.must(&["create", "--bundle", &text(long), id])?;
            runtime.must(&["start", id])?;
            runtime.must(&["delete", "--force", id])
        }
        Race::Exec => runtime.must(&["exec", "lives", "/bin/true"]),
        Race::State => runtime.must(&["state", "lives"]),
    }
}

/// The most memory that it, or a process that it has waited for, had at a time.
fn memory(runtime: &Runtime, bundle: &Path) -> Outcome<i64> {
    let child = runtime.command(&["run", "--bundle", &text(bundle), "m"]).spawn()?;
    let mut status = 0;
    // SAFETY: a struct of numbers, for each of which 0 is valid.
    let mut used: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both outlive the call, which waits for a child of this process.
    nix::errno::Errno::result(unsafe { libc::wait4(child.id() as i32, &mut status, 0, &mut used) })?;
    let status = std::process::ExitStatus::from_raw(status);
    if status.success() { Ok(used.ru_maxrss) } else { Err(format!("{}: {status}", runtime.name).into()) }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// It is of another package than this benchmark's.
fn build() -> Outcome<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--release", "--package", "oci", "--bin", "chapter10"])
        .status()?;
    let chapters = Path::new(env!("CARGO_BIN_EXE_chapter07")).parent().ok_or("no directory")?;
    let program = chapters.join("chapter10");
    if status.success() && program.exists() { Ok(program) } else { Err("chapter10 can't be built".into()) }
}

/// What Docker adds to the bundle of the other table: its fourteen capabilities, limits of a process, a filter, covers, and a list of
/// devices. The filter is our default profile, in the standard's format.
fn config(rootfs: &Path, command: &[&str]) -> Outcome<Value> {
    let kept = [
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FSETID",
        "CAP_FOWNER",
        "CAP_MKNOD",
        "CAP_NET_RAW",
        "CAP_SETGID",
        "CAP_SETUID",
        "CAP_SETFCAP",
        "CAP_SETPCAP",
        "CAP_NET_BIND_SERVICE",
        "CAP_SYS_CHROOT",
        "CAP_KILL",
        "CAP_AUDIT_WRITE",
    ];
    let mut config = oci(rootfs, command);
    config["process"]["capabilities"] = json!({ "bounding": kept, "effective": kept, "permitted": kept });
    config["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 1024, "hard": 1024 }]);
    config["process"]["oomScoreAdj"] = json!(0);
    config["root"]["readonly"] = json!(false);
    let profile: Value = serde_json::from_str(include_str!("../../src/container/seccomp/default.json"))?;
    let entries = profile["syscalls"].as_array().ok_or("no list")?;
    let plain = entries.iter().filter(|entry| entry.get("includes").is_none()).map(|entry| {
        let mut entry = entry.clone();
        if let Some(entry) = entry.as_object_mut() {
            entry.retain(|key, _| ["names", "action", "errnoRet", "args"].contains(&key.as_str()));
        }
        entry
    });
    let linux = &mut config["linux"];
    linux["seccomp"] = json!({
        "defaultAction": profile["defaultAction"],
        "defaultErrnoRet": profile.get("defaultErrnoRet").cloned().unwrap_or(json!(1)),
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": plain.collect::<Vec<_>>(),
    });
    linux["maskedPaths"] = json!([
        "/proc/asound",
        "/proc/acpi",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/proc/sched_debug",
        "/proc/scsi",
        "/sys/firmware",
    ]);
    linux["readonlyPaths"] =
        json!(["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]);
    let allow = |kind: &str, major: u32, minor: u32| json!({ "allow": true, "type": kind, "major": major, "minor": minor, "access": "rwm" });
    linux["resources"]["devices"] = json!([{ "allow": false, "access": "rwm" }, allow("c", 1, 5), allow("c", 1, 3), allow("c", 1, 9), allow("c", 1, 8)]);
    Ok(config)
}
