//! The checks of chapter 6: the kernel's own files of the container's cgroup, read from outside.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::check::{Check, Failure, Session, Trial, children, descendants, namespace, shorten, status_of};
use cooperage::container::cgroup::{Mount, membership};

/// In the order of the tasks.
pub const CHECKS: &[Check] = &[
    Check {
        task: "6.1",
        explain: "Starts containers without any limit, whose first act is to start another process, and looks up \
                  both in /proc/PID/cgroup on the host: both must be in a cgroup other than the runtime's, for \
                  memory, cpu and pids. The runtime has the lowest priority meanwhile, so that who joins late is late.",
        needs: &["cgroup-memory", "cgroup-cpu", "cgroup-pids"],
        run: in_the_cgroup,
    },
    Check {
        task: "6.2",
        explain: "Starts containers with random limits, finds each one's cgroup through /proc/PID/cgroup, and reads \
                  the kernel's files there: bytes of memory, quota divided by period, number of processes. Any \
                  period is good. Sizes are given with b, k, m, g and without a unit; one makes no sense.",
        needs: &["cgroup-memory", "cgroup-cpu", "cgroup-pids"],
        run: limits,
    },
    Check {
        task: "6.3",
        explain: "Lets one container run into its memory limit: status 137, and \"out of memory\" on stderr. Then \
                  kills another one's process 1 with SIGKILL, and lets a third end with status 137 by itself: \
                  status 137, and no such line.",
        needs: &["cgroup-memory"],
        run: out_of_memory,
    },
    Check {
        task: "6.4",
        explain: "Runs a container with --stats that uses a random amount of memory, gives it back, and then runs \
                  into its processor quota. Reads the kernel's counters shortly before the end, and compares \
                  them with the file after the end.",
        needs: &["cgroup-memory", "cgroup-cpu"],
        run: stats,
    },
];

/// No link to the world: these checks need none, and it takes time.
const ALONE: [&str; 2] = ["--network", "none"];

/// The cgroup of a process for a controller: the directory, as it is seen from here.
fn directory_of(trial: &Trial, pid: i32, controller: &str) -> Option<PathBuf> {
    let mounts = Mount::all(&trial.proc("self/mountinfo")?);
    let memberships = trial.proc(&format!("{pid}/cgroup"))?;
    let v1 = mounts
        .iter()
        .find(|mount| mount.kind == "cgroup" && mount.options.iter().any(|option| option == controller));
    match v1 {
        Some(mount) => mount.directory_of(membership(&memberships, Some(controller))?),
        None => {
            let mount = mounts.iter().find(|mount| mount.kind == "cgroup2")?;
            mount.directory_of(membership(&memberships, None)?)
        }
    }
}

/// What a file of the kernel holds, by its name in version 1 or in version 2: whichever is there.
fn read(directory: &Path, names: [&str; 2]) -> Option<String> {
    let text = names.iter().find_map(|name| fs::read_to_string(directory.join(name)).ok())?;
    Some(text.trim().to_string())
}

/// The number after a word.
fn value(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// The processes of the container: those in another PID namespace than the runtime.
fn members(session: &Session) -> Vec<i32> {
    let outside = namespace(session.pid(), "pid");
    let mut all = session.descendants();
    all.retain(|&pid| {
        // A zombie has no namespace any more, and no cgroup either.
        let inside = namespace(pid, "pid");
        inside.is_some() && inside != outside
    });
    all
}

/// The container's process 1.
fn first(session: &Session) -> Result<i32, Failure> {
    let members = members(session);
    let is_first = |pid: &&i32| status_of(**pid, "NSpid").last().is_some_and(|inner| inner == "1");
    members.iter().find(is_first).or(members.first()).copied().ok_or_else(|| {
        session.fail(
            "a process in a PID namespace of its own, below the runtime",
            "none",
            "chapter 2's namespace belongs to every chapter after it",
        )
    })
}

/// While this is there, the next program that is started runs on one processor, together with all its
/// children, and once there is a container, only when none of them wants it. So whatever the runtime does after the container could
/// begin comes after the container has begun. Nothing that is done in time is disturbed by it. Where the
/// machine is busy it is given up soon, because the runtime would get no time at all.
struct RuntimeLast {
    over: Arc<AtomicBool>,
    helper: std::thread::JoinHandle<()>,
}

impl RuntimeLast {
    const AT_MOST: Duration = Duration::from_millis(1500);

    fn begin() -> RuntimeLast {
        let over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&over);
        let known = children(std::process::id() as i32);
        let helper = std::thread::spawn(move || {
            let over = || told.load(Ordering::Relaxed);
            let mut runtime = None;
            while runtime.is_none() && !over() {
                runtime = children(std::process::id() as i32).into_iter().find(|pid| !known.contains(pid));
                std::thread::sleep(Duration::from_micros(200));
            }
            let Some(runtime) = runtime else { return };
            on_one_processor(runtime);
            let outside = namespace(std::process::id() as i32, "pid");
            let is_inside = |pid: &i32| namespace(*pid, "pid").is_some_and(|inside| Some(inside) != outside);
            while !over() && !descendants(runtime).iter().any(is_inside) {
                std::thread::sleep(Duration::from_micros(200));
            }
            set_policy(runtime, libc::SCHED_IDLE | libc::SCHED_RESET_ON_FORK);
            let start = Instant::now();
            while !over() && start.elapsed() < RuntimeLast::AT_MOST {
                std::thread::sleep(Duration::from_millis(1));
            }
            set_policy(runtime, libc::SCHED_OTHER);
        });
        RuntimeLast { over, helper }
    }

    fn end(self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = self.helper.join();
    }
}

fn on_one_processor(pid: i32) {
    let Ok(allowed) = sched_getaffinity(Pid::from_raw(pid)) else { return };
    let mut one = CpuSet::new();
    let last = (0..CpuSet::count()).rev().find(|&n| allowed.is_set(n).unwrap_or(false));
    if let Some(last) = last
        && one.set(last).is_ok()
    {
        let _ = sched_setaffinity(Pid::from_raw(pid), &one);
    }
}

fn set_policy(pid: i32, policy: i32) {
    // struct sched_param of the kernel. (musl's function of this name does nothing.)
    let priority: libc::c_int = 0;
    // SAFETY: the parameter outlives the call. That it may fail does not matter: then nothing is delayed.
    unsafe { libc::syscall(libc::SYS_sched_setscheduler, pid, policy, &raw const priority) };
}

const BEGAN_OUTSIDE: &str = "the command began outside of it, and was moved later";
const LATE: &str = "a process is born into its parent's cgroup and stays there when the parent moves: whoever is moved \
                    after the command has begun leaves behind what it has used and started. The first process has \
                    to enter before it becomes the command";

fn in_the_cgroup(trial: &mut Trial) -> Result<(), Failure> {
    for _ in 0..4 {
        let delay = RuntimeLast::begin();
        // Nothing to set up inside, for which a command would have to wait.
        let session = trial.start(&["--network", "host"], "sleep 1000 &");
        delay.end();
        let session = session?;
        let first = first(&session)?;
        let runtime = session.pid();
        for controller in ["memory", "cpu", "pids"] {
            let expected =
                "the container in a cgroup of its own for memory, cpu and pids, the runtime outside of it";
            let place = |pid| directory_of(trial, pid, controller);
            let shown = |place: &Option<PathBuf>| {
                place.as_ref().map_or("unknown".to_string(), |place| place.display().to_string())
            };
            let (inside, outside) = (place(first), place(runtime));
            if inside == outside && outside != place(std::process::id() as i32) {
                return Err(session.fail(
                    expected,
                    "the runtime and the container together in one",
                    "the runtime has moved itself: it is limited and counted too, and at the memory limit the \
                     kernel may kill it in place of the command. Only the child is to move",
                ));
            }
            if inside == outside {
                let start = Instant::now();
                while place(first) == inside && start.elapsed() < Duration::from_secs(2) {
                    std::thread::sleep(Duration::from_millis(5));
                }
                let later = place(first);
                if later != inside && later.is_some() {
                    return Err(session.fail(expected, BEGAN_OUTSIDE, LATE));
                }
                return Err(session.fail(
                    expected,
                    format!("the container's process 1 in {}, like the runtime", shown(&inside)),
                    format!(
                        "a cgroup is entered by writing a pid (0 is the writer's own) into its cgroup.procs; with \
                         version 1 into one for each controller: the {controller} controller's was left out"
                    ),
                ));
            }
            for pid in members(&session) {
                let place_of_it = place(pid).filter(|_| namespace(pid, "pid").is_some());
                if place_of_it.is_some_and(|place| Some(place) != inside) {
                    return Err(session.fail(expected, BEGAN_OUTSIDE, LATE));
                }
            }
        }
        session.end()?;
    }
    Ok(())
}

fn limits(trial: &mut Trial) -> Result<(), Failure> {
    let megabytes = trial.number(33, 90);
    let kilobytes = 4 * trial.number(9_000, 20_000);
    let bytes = 4096 * trial.number(9_000, 20_000);
    let processors = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let sizes = [
        (format!("{megabytes}m"), megabytes << 20),
        (format!("{kilobytes}k"), kilobytes << 10),
        (format!("{bytes}"), bytes),
        (format!("{bytes}b"), bytes),
        ("1g".to_string(), 1 << 30),
    ];
    for (n, (size, expected)) in sizes.into_iter().enumerate() {
        // The second has more than one processor, where there are more.
        let percent = if n == 1 && processors > 1 { trial.number(111, 199) } else { trial.number(21, 89) };
        let cpus = format!("{}.{:02}", percent / 100, percent % 100);
        let pids = trial.number(20, 200);
        let pids_limit = pids.to_string();
        let mut options = ALONE.to_vec();
        options.extend(["--memory", &size, "--cpus", &cpus, "--pids-limit", &pids_limit]);
        let session = trial.start(&options, "")?;
        let first = first(&session)?;
        let find = |controller: &str| {
            directory_of(trial, first, controller).ok_or_else(|| {
                session.fail(
                    format!("the container in a {controller} cgroup"),
                    "it is in none that can be seen from the host",
                    "see task 6.1",
                )
            })
        };

        let saw = read(&find("memory")?, ["memory.limit_in_bytes", "memory.max"]).unwrap_or_default();
        if saw != expected.to_string() {
            return Err(session.fail(
                format!("a memory limit of {expected} bytes for --memory {size}"),
                format!("{saw}{}", if saw == "max" || is_none(&saw) { ", which is no limit" } else { "" }),
                memory_lesson(saw.parse().ok(), expected),
            ));
        }
        let (quota, period) = quota_of(&find("cpu")?);
        let exact = |quota: f64, period: f64| (quota / period * 100.0 - percent as f64).abs() < 1.0;
        if !exact(quota, period) {
            let lesson = if exact(period, quota) {
                "quota and period are swapped: the quota is how much of each period it may use"
            } else if quota <= 0.0 {
                "the quota was never written: -1 (or max) is no limit"
            } else {
                "both are in microseconds, and quota divided by period is the number of processors"
            };
            let quota = if quota <= 0.0 { "none".to_string() } else { quota.to_string() };
            return Err(session.fail(
                format!("a quota of {cpus} periods in each period for --cpus {cpus}"),
                format!("quota {quota}, period {period}"),
                lesson,
            ));
        }
        let saw = read(&find("pids")?, ["pids.max", "pids.max"]).unwrap_or_default();
        if saw != pids_limit {
            return Err(session.fail(
                format!("a limit of {pids} processes for --pids-limit {pids}"),
                saw,
                "the number goes into pids.max as it is",
            ));
        }
        session.end()?;
    }

    let word = trial.word();
    let run = trial.run(&["--memory", "lots", "--", "echo", &word])?;
    if run.status == 0 || run.out.contains(&word) {
        return Err(run.fail(
            "an error, and no container",
            run.said(),
            "a limit that was not understood must not become no limit: its user believes that it holds",
        ));
    }
    Ok(())
}

/// What version 1 shows where there is no limit.
fn is_none(limit: &str) -> bool {
    limit.parse::<u64>().is_ok_and(|limit| limit > 1 << 60)
}

fn memory_lesson(saw: Option<u64>, expected: u64) -> &'static str {
    // The kernel rounds down to pages.
    let about = |other: u64| saw.is_some_and(|saw| saw / 4096 == other / 4096);
    let ratio = |up: u64, down: u64| about((u128::from(expected) * u128::from(up) / u128::from(down)) as u64);
    if saw.is_none_or(|saw| saw > 1 << 60) {
        "nothing was written into the file, or into another cgroup's than the one that the container is in"
    } else if ratio(1, 1024) || ratio(1024, 1) {
        "bytes were taken for kilobytes, or the other way round: the file is in bytes"
    } else if ratio(1_000_000, 1 << 20) || ratio(1_000, 1 << 10) || ratio(1_000_000_000, 1 << 30) {
        "these units are powers of 1024: 1m is 1024 times 1024 bytes, as with Docker"
    } else {
        "the file is in bytes; b, k, m and g are powers of 1024, and a number alone is bytes"
    }
}

/// Quota and period, in microseconds. No quota is -1.
fn quota_of(directory: &Path) -> (f64, f64) {
    let number = |text: Option<&str>| text.and_then(|text| text.trim().parse().ok());
    if let Some(text) = read(directory, ["cpu.max", "cpu.max"]) {
        let mut words = text.split(' ');
        return (number(words.next()).unwrap_or(-1.0), number(words.next()).unwrap_or(100_000.0));
    }
    let read = |name| number(read(directory, [name, name]).as_deref());
    (read("cpu.cfs_quota_us").unwrap_or(-1.0), read("cpu.cfs_period_us").unwrap_or(100_000.0))
}

fn speaks_of_memory(err: &str) -> bool {
    let err = err.to_lowercase();
    err.contains("out of memory") || err.contains("oom")
}

fn out_of_memory(trial: &mut Trial) -> Result<(), Failure> {
    let size = format!("{}m", trial.number(16, 40));
    let mut options = ALONE.to_vec();
    options.extend(["--memory", &size]);

    let mut args = options.clone();
    args.extend(["--", "dd", "if=/dev/zero", "of=/dev/null", "bs=400M", "count=1"]);
    let run = trial.run(&args)?;
    let expected = "status 137, and \"out of memory\" on stderr: dd reads 400 MiB at once";
    if run.status != 137 {
        let lesson =
            "the kernel kills with SIGKILL, and a command that a signal has killed is 128 plus its number";
        return Err(run.fail(expected, run.said(), lesson));
    }
    if !speaks_of_memory(&run.err) {
        return Err(run.fail(
            expected,
            run.said(),
            "without a word the user cannot tell this from any other kill. The memory controller counts its own \
             kills: version 1 in memory.oom_control, version 2 in memory.events",
        ));
    }

    let expected = "status 137, and nothing about memory on stderr: a SIGKILL from outside ended process 1";
    let session = trial.start(&options, "")?;
    let first = first(&session)?;
    let _ = kill(Pid::from_raw(first), Signal::SIGKILL);
    let mut run = session.wait()?;
    run.command += " (and kill -9 of its process 1)";
    if run.status != 137 {
        return Err(run.fail(expected, run.said(), "a command that SIGKILL has ended has status 128 + 9"));
    }
    let lesson = "not every SIGKILL comes from the kernel because memory ran out: the status cannot tell, the counter of \
                  this container's own cgroup can (a container before it did run out of memory)";
    if speaks_of_memory(&run.err) {
        return Err(run.fail(expected, run.said(), lesson));
    }
    let run = trial.sh(&options, "sh -c 'kill -KILL $$'; exit $?")?;
    if run.status != 137 || speaks_of_memory(&run.err) {
        let expected =
            "status 137, and nothing about memory on stderr: the command itself ends with that status";
        return Err(run.fail(expected, run.said(), lesson));
    }
    Ok(())
}

/// What the host's kernel has counted for a container that is running.
struct Counted {
    peak: u64,
    cpu: u64,
    throttled: u64,
}

fn count(trial: &Trial, session: &Session, first: i32) -> Option<Counted> {
    let memory = directory_of(trial, first, "memory")?;
    let cpu = directory_of(trial, first, "cpu")?;
    let cpu_stat = read(&cpu, ["cpu.stat", "cpu.stat"])?;
    let usage = match value(&cpu_stat, "usage_usec") {
        Some(usage) => usage,
        None => {
            let own = directory_of(trial, first, "cpuacct").filter(|own| {
                directory_of(trial, session.pid(), "cpuacct").is_some_and(|runtime| runtime != *own)
            });
            let counted = own.and_then(|own| read(&own, ["cpuacct.usage", "cpuacct.usage"]));
            counted.and_then(|text| text.parse::<u64>().ok()).map_or_else(|| used(session), |ns| ns / 1000)
        }
    };
    Some(Counted {
        peak: read(&memory, ["memory.max_usage_in_bytes", "memory.peak"])?.parse().ok()?,
        cpu: usage,
        throttled: value(&cpu_stat, "nr_throttled")?,
    })
}

/// The processor time of the container's processes, in microseconds, as /proc/PID/stat counts it.
fn used(session: &Session) -> u64 {
    const TICK: u64 = 10_000;
    let ticks = |pid: &i32| {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let after = text.rsplit(')').next().unwrap_or_default().to_string();
        after.split_whitespace().skip(11).take(4).filter_map(|word| word.parse::<u64>().ok()).sum::<u64>()
    };
    TICK * members(session).iter().map(ticks).sum::<u64>()
}

fn stats(trial: &mut Trial) -> Result<(), Failure> {
    let file = trial.directory().join(trial.word());
    let shown = file.display().to_string();
    let size = trial.number(12, 24) << 20;
    let mut options = ALONE.to_vec();
    options.extend(["--memory", "96m", "--cpus", "0.3", "--stats", &shown]);
    // Memory first, and given back; then a loop without end.
    let script = format!("dd if=/dev/zero of=/dev/null bs={size} count=1 2>/dev/null; while :; do :; done &");
    let session = trial.start(&options, &script)?;
    let first = first(&session)?;
    let start = Instant::now();
    let mut counted = count(trial, &session, first);
    while counted.as_ref().is_none_or(|counted| counted.throttled < 3) {
        if start.elapsed() > Duration::from_secs(4) {
            let quota = directory_of(trial, first, "cpu").map(|cpu| quota_of(&cpu));
            if quota.is_some_and(|(quota, period)| (quota / period - 0.3).abs() < 0.01) {
                // The machine is so busy that not even three tenths of a processor are free.
                break;
            }
            return Err(session.fail(
                "a container that its quota slows down: it runs a loop without end with --cpus 0.3",
                "its quota is another",
                "see task 6.2",
            ));
        }
        std::thread::sleep(Duration::from_millis(20));
        counted = count(trial, &session, first);
    }
    let Some(before) = counted else { return Ok(()) };
    let early = file.exists();
    let run = session.end()?;

    let format = "three lines in the file: peak_memory N, cpu_usec N, nr_throttled N";
    let Ok(text) = fs::read_to_string(&file) else {
        return Err(run.fail(
            format,
            format!("no file {shown}"),
            "the runtime writes it on the host, when the container has ended and before its cgroup is removed",
        ));
    };
    let keys = ["peak_memory", "cpu_usec", "nr_throttled"];
    let found: Vec<u64> = keys.iter().filter_map(|key| value(&text, key)).collect();
    let [peak, cpu, throttled] = found[..] else {
        let missing: BTreeSet<_> = keys.into_iter().filter(|key| value(&text, key).is_none()).collect();
        let missing = missing.into_iter().collect::<Vec<_>>().join(", ");
        let lesson = format!("missing, or without a whole number: {missing}");
        return Err(run.fail(format, shorten(&text), lesson));
    };
    let late = if early { "; and the file was there before the container's end" } else { "" };

    let (least, most) = (before.peak.max(size) * 98 / 100, before.peak + (8 << 20));
    if !(least..=most).contains(&peak) {
        let lesson = if most / 1024 >= peak && peak >= least / 1024 {
            "this is in kilobytes; bytes were asked for"
        } else if peak < least {
            "less than it has used: a peak is not what is in use at the end. The kernel keeps the most: \
             memory.max_usage_in_bytes in version 1, memory.peak in version 2"
        } else {
            "more than the kernel has counted for this cgroup: is it another cgroup's, or the runtime's too?"
        };
        let expected =
            format!("peak_memory a little more than {size}: it held so much at once, and gave it back");
        return Err(run.fail(
            expected,
            format!("peak_memory is {}{late}", compared(peak, before.peak)),
            lesson,
        ));
    }
    let (least, most) = ((before.cpu * 95 / 100).saturating_sub(30_000), before.cpu * 3 / 2 + 1_500_000);
    if !(least..=most).contains(&cpu) {
        let lesson = if (least..=most).contains(&(cpu / 1000)) {
            "this is in nanoseconds, as version 1's cpuacct.usage is; microseconds were asked for"
        } else {
            "all its processes count, those that have ended too: version 1 has the sum in cpuacct.usage, version 2 \
             in usage_usec of cpu.stat"
        };
        let expected = "cpu_usec a little more than the kernel had counted shortly before the end";
        return Err(run.fail(expected, format!("cpu_usec is {}{late}", compared(cpu, before.cpu)), lesson));
    }
    // Every period in which it was throttled has passed or is passing: 100 ms each, or what it has chosen. A
    // machine that is slow needs many of them to end a container at a third of its speed.
    if !(before.throttled..=before.throttled + 100).contains(&throttled) {
        let expected = "nr_throttled as the kernel had counted shortly before the end, or a few more";
        let lesson = "cpu.stat counts all periods (nr_periods), those in which it was held back (nr_throttled), and \
                      for how long (throttled_time or throttled_usec)";
        let saw = format!("nr_throttled is {}{late}", compared(throttled, before.throttled));
        return Err(run.fail(expected, saw, lesson));
    }
    Ok(())
}

/// A measured number beside the right one, in words that are the same in every run.
fn compared(saw: u64, right: u64) -> &'static str {
    match saw as f64 / right.max(1) as f64 {
        0.0 => "0",
        ..0.000_5 => "next to nothing of that",
        ..0.002 => "about a thousandth of that",
        ..0.1 => "less than a tenth of that",
        ..0.5 => "less than half of that",
        ..1.0 => "less than that",
        ..2.0 => "more than that, but not twice as much",
        ..500.0 => "many times as much",
        ..2000.0 => "about a thousand times as much",
        _ => "far more than that",
    }
}
