//! What a filter costs a call: calls in a tight loop, by a process without a filter, and by processes with several. Each
//! process is a child of its own; in a round each filter has one, and each round begins with another.
//!
//! The rivals' filters are not imitated. runc and crun are given Docker's profile, start a container with it, and the filter is
//! taken from that container: ptrace(2) has a request for it.

use std::ffi::{c_int, c_long};
use std::fs::File;
use std::io::{Read, Write};
use std::mem::MaybeUninit;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cooperage::container::power::capabilities::{Set, USUAL};
use cooperage::container::seccomp::Filter;
use cooperage::container::seccomp::names::HERE;
use cooperage::container::seccomp::profile::{Action, Comparison, Profile};
use cooperage::container::seccomp::program::Instruction;
use cooperage::workshop::rootfs::Rootfs;
use nix::sys::ptrace;
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork, pipe};
use serde_json::{Value, json};

use super::contenders::{find, oci};
use super::libseccomp::{self, Order};
use super::table::Table;
use super::{Options, Outcome, Rounds};

/// By how many nanoseconds ours may cost a call more than Docker's.
const GOAL: f64 = 40.0;
/// Docker's profile where Debian has it, and Podman's, which was made from it.
const DOCKERS: [&str; 2] = [
    "/usr/share/gocode/src/github.com/docker/docker/profiles/seccomp/default.json",
    "/usr/share/containers/seccomp.json",
];

/// How often a call is made between two looks at the clock, and how often that is done. The median counts.
const CALLS: u32 = 500;
const TIMES: usize = 31;

/// A call that ends soon.
struct Call {
    name: &'static str,
    number: c_long,
    arguments: [c_long; 3],
    /// Does our filter look at its arguments by rules that libseccomp can't have? A rule without a condition makes it
    /// forget those with one.
    only_ours: bool,
}

const fn call(name: &'static str, number: c_long, arguments: [c_long; 3]) -> Call {
    Call { name, number, arguments, only_ours: false }
}

const ALL: [Call; 8] = [
    call("`getppid`", libc::SYS_getppid, [0; 3]),
    call("`read`, of nothing", libc::SYS_read, [-1, 0, 0]),
    call("`clock_gettime`, of no clock", libc::SYS_clock_gettime, [99, 0, 0]),
    call("`close_range`, of nothing", libc::SYS_close_range, [2, 1, 0]),
    call("`personality`: which is it?", libc::SYS_personality, [0xffff_ffff, 0, 0]),
    call("`clone`, with flags that contradict", libc::SYS_clone, [libc::CLONE_SIGHAND as c_long, 0, 0]),
    Call {
        only_ours: true,
        ..call("`socket`, of no type", libc::SYS_socket, [libc::AF_INET as c_long, 15, 0])
    },
    Call { only_ours: true, ..call("`ioctl`, of nothing", libc::SYS_ioctl, [-1, libc::TCGETS as c_long, 0]) },
];

impl Call {
    fn make(&self) -> c_long {
        let [first, second, third] = self.arguments;
        // SAFETY: none of them writes to memory: what they are given is nothing that they could do something with.
        unsafe { libc::syscall(self.number, first, second, third, 0, 0, 0) }
    }

    /// Which errno it ends with, and its nanoseconds.
    fn measure(&self) -> [f64; 2] {
        let mut times = [0.0; TIMES];
        for time in &mut times {
            let begun = Instant::now();
            for _ in 0..CALLS {
                self.make();
            }
            *time = begun.elapsed().as_nanos() as f64 / f64::from(CALLS);
        }
        times.sort_by(f64::total_cmp);
        let errno = if self.make() < 0 { nix::errno::Errno::last_raw() } else { 0 };
        [f64::from(errno), times[TIMES / 2]]
    }
}

/// A filter, or none.
struct Rival {
    name: String,
    program: Vec<libc::sock_filter>,
}

impl Rival {
    fn new(name: impl Into<String>, program: &[Instruction]) -> Rival {
        Rival { name: name.into(), program: program.iter().map(Instruction::for_kernel).collect() }
    }

    /// Measures every call, in a child that has the filter.
    fn measure(&self) -> Outcome<Vec<[f64; 2]>> {
        let (read, write) = pipe()?;
        // SAFETY: this process has one thread.
        let child = match unsafe { fork()? } {
            ForkResult::Parent { child } => child,
            ForkResult::Child => {
                let mut said = Vec::new();
                if self.load().is_ok() {
                    said.extend(ALL.iter().flat_map(Call::measure).flat_map(f64::to_ne_bytes));
                }
                let written = File::from(write).write_all(&said);
                // SAFETY: _exit(2) has no precondition.
                unsafe { libc::_exit(c_int::from(written.is_err())) }
            }
        };
        drop(write);
        let mut said = Vec::new();
        File::from(read).read_to_end(&mut said)?;
        waitpid(child, None)?;
        let numbers: Vec<f64> = said
            .chunks_exact(8)
            .map(|bytes| f64::from_ne_bytes(bytes.try_into().unwrap_or_default()))
            .collect();
        if numbers.len() != 2 * ALL.len() {
            return Err(format!("{}: the filter was not loaded", self.name).into());
        }
        Ok(numbers.chunks_exact(2).map(|pair| [pair[0], pair[1]]).collect())
    }

    fn load(&self) -> nix::Result<()> {
        if self.program.is_empty() {
            return Ok(());
        }
        nix::sys::prctl::set_no_new_privs()?;
        let list =
            libc::sock_fprog { len: self.program.len() as u16, filter: self.program.as_ptr().cast_mut() };
        // SAFETY: the structure and the instructions live; the kernel only reads them.
        let loaded =
            unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const list) };
        nix::errno::Errno::result(loaded).map(drop)
    }
}

/// The table: what each call takes without a filter, and how much more with one.
pub fn cost(options: &Options) -> Outcome<Table> {
    let held = Set::of(USUAL);
    let mut rivals = vec![Rival::new("no filter", &[])];
    let usual = Profile::usual(held)?;
    rivals.push(Rival::new("ours", Filter::new(&usual)?.program()));
    let ours_by_others = rivals.len();
    if libseccomp::is_there() {
        rivals.push(Rival::new("ours, libseccomp's list", &libseccomp::compile(&usual, Order::List)));
        rivals.push(Rival::new("ours, libseccomp's tree", &libseccomp::compile(&usual, Order::Tree)));
    }
    let dockers = rivals.len();
    let file =
        options.profile.as_deref().or_else(|| DOCKERS.into_iter().find(|file| Path::new(file).exists()));
    if let Some(file) = file {
        let profile = Profile::from_file(Path::new(file), held)?;
        let whose = if file == DOCKERS[1] { "Podman's" } else { "Docker's" };
        for runtime in ["runc", "crun"] {
            let Some(program) = find(runtime) else { continue };
            let program = taken_from(&program, &profile)?;
            rivals.push(Rival { name: format!("{whose}, by {runtime}"), program });
        }
        rivals.push(Rival::new(format!("{whose}, by our compiler"), Filter::new(&profile)?.program()));
    }
    let rounds = measure(&rivals, options.rounds)?;

    let beyond = rivals.get(dockers).map(|rival| format!("ours beyond {}", rival.name));
    let mut head = vec!["", "no filter, ns"];
    head.extend(rivals[1..].iter().map(|rival| rival.name.as_str()));
    head.extend(beyond.as_deref());
    let mut table = Table::new("filter", "What a filter adds to a call, in nanoseconds", &head);
    for (call, rounds) in ALL.iter().zip(&rounds) {
        let mut row = vec![call.name.to_string(), format!("{:.0}", rounds.median(0))];
        for which in 1..rivals.len() {
            let forgotten = call.only_ours && (ours_by_others..dockers).contains(&which);
            row.push(if forgotten { "-".to_string() } else { whole(rounds.difference(which, 0)) });
        }
        if dockers < rivals.len() {
            row.push(match rounds.difference(1, dockers) {
                more if more <= GOAL => whole(more),
                more => format!("{} (missed)", whole(more)),
            });
        }
        table.row(&row.iter().map(String::as_str).collect::<Vec<_>>());
    }
    let mut row = vec!["instructions".to_string(), String::new()];
    row.extend(rivals[1..].iter().map(|rival| rival.program.len().to_string()));
    row.extend(beyond.as_ref().map(|_| String::new()));
    table.row(&row.iter().map(String::as_str).collect::<Vec<_>>());
    let versions: Vec<String> = ["runc", "crun"].into_iter().filter_map(version).collect();
    table.remark(
        format!("Goal: at most {GOAL} ns beyond Docker's. {}", versions.join(", ")).trim_end().to_string(),
    );
    table.print();
    Ok(table)
}

/// Nothing after the point, and no -0.
fn whole(number: f64) -> String {
    format!("{:.0}", number.round() + 0.0)
}

/// `runc 1.1.5`, if it is there.
fn version(runtime: &str) -> Option<String> {
    let said = Command::new(find(runtime)?).arg("--version").output().ok()?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    Some(said.lines().next()?.replace(" version", ""))
}

/// For each call: what it takes each rival in each round.
fn measure(rivals: &[Rival], rounds: usize) -> Outcome<Vec<Rounds>> {
    let mut times: Vec<_> = ALL.iter().map(|_| vec![Vec::new(); rivals.len()]).collect();
    let right = rivals[0].measure()?;
    for round in 0..rounds {
        for offset in 0..rivals.len() {
            let which = (round + offset) % rivals.len();
            for (index, [errno, time]) in rivals[which].measure()?.into_iter().enumerate() {
                if errno != right[index][0] {
                    return Err(
                        format!("{}: {} ends with {errno}", rivals[which].name, ALL[index].name).into()
                    );
                }
                times[index][which].push(time);
            }
        }
    }
    Ok(times.into_iter().map(Rounds).collect())
}

/// The filter that a runtime makes of a profile, out of a container of its.
fn taken_from(runtime: &Path, profile: &Profile) -> Outcome<Vec<libc::sock_filter>> {
    let rootfs = Rootfs::find(None)?;
    let bundle = tempfile::tempdir()?;
    let mut config = oci(rootfs.path(), &["/bin/sleep", "100"]);
    config["linux"]["seccomp"] = in_oci_form(profile)?;
    std::fs::write(bundle.path().join("config.json"), config.to_string())?;
    let name = format!("cooperage-bench-{}-filter", std::process::id());
    let pid_file = bundle.path().join("pid");
    let null = || Stdio::null();
    let status = Command::new(runtime)
        .args(["run", "--detach", "--bundle"])
        .arg(bundle.path())
        .arg("--pid-file")
        .arg(&pid_file)
        .arg(&name)
        .stdin(null())
        .stdout(null())
        .status()?;
    let taken = if status.success() {
        let pid = std::fs::read_to_string(&pid_file)?.trim().parse()?;
        filter_of(Pid::from_raw(pid))
    } else {
        Err(format!("{}: {status}", runtime.display()).into())
    };
    Command::new(runtime).args(["delete", "--force", &name]).stderr(null()).status()?;
    taken
}

/// The filter that a process has. It may be about to load it.
fn filter_of(pid: Pid) -> Outcome<Vec<libc::sock_filter>> {
    const GET_FILTER: libc::c_uint = 0x420c; // PTRACE_SECCOMP_GET_FILTER
    const LONGEST: usize = 4096;
    let mut program = vec![MaybeUninit::<libc::sock_filter>::uninit(); LONGEST];
    for _ in 0..100 {
        ptrace::attach(pid)?;
        waitpid(pid, None)?;
        // SAFETY: a program has at most 4096 instructions, and there is room for as many.
        let count = unsafe { libc::ptrace(GET_FILTER as _, pid.as_raw(), 0, program.as_mut_ptr()) };
        ptrace::detach(pid, None)?;
        if let Ok(count @ 1..) = usize::try_from(count) {
            // SAFETY: so many of them the kernel has written.
            return Ok(program[..count].iter().map(|one| unsafe { one.assume_init() }).collect());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Err("the container has no filter, or this kernel shows none".into())
}

/// A profile, as Docker writes it into config.json.
fn in_oci_form(profile: &Profile) -> Outcome<Value> {
    let mut calls = Vec::new();
    for (number, rules) in &profile.calls {
        let name = HERE.iter().find(|(_, known)| known == number).map(|(name, _)| *name);
        for rule in rules {
            let conditions = rule.conditions.iter().map(|condition| {
                let (op, value, second) = match condition.comparison {
                    Comparison::Equal(value) => ("EQ", value, 0),
                    Comparison::NotEqual(value) => ("NE", value, 0),
                    Comparison::Less(value) => ("LT", value, 0),
                    Comparison::LessOrEqual(value) => ("LE", value, 0),
                    Comparison::Greater(value) => ("GT", value, 0),
                    Comparison::GreaterOrEqual(value) => ("GE", value, 0),
                    Comparison::Masked { mask, value } => ("MASKED_EQ", mask, value),
                };
                json!({ "index": condition.argument, "op": format!("SCMP_CMP_{op}"), "value": value, "valueTwo": second })
            });
            let mut entry = action(rule.action, "action", "errnoRet")?;
            entry["names"] = json!([name]);
            entry["args"] = conditions.collect();
            calls.push(entry);
        }
    }
    let mut whole = action(profile.default, "defaultAction", "defaultErrnoRet")?;
    let here: &[&str] = if cfg!(target_arch = "aarch64") {
        &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]
    } else {
        &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
    };
    whole["architectures"] = json!(here);
    whole["syscalls"] = calls.into();
    Ok(whole)
}

fn action(action: Action, name: &str, errno_name: &str) -> Outcome<Value> {
    match (action, action.0 & 0xffff) {
        (Action::ALLOW, _) => Ok(json!({ name: "SCMP_ACT_ALLOW" })),
        (action, errno) if action == Action::errno(errno) => {
            Ok(json!({ name: "SCMP_ACT_ERRNO", errno_name: errno }))
        }
        (action, _) => Err(format!("{action} is in no profile of Docker's").into()),
    }
}
