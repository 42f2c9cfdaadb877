//! Many containers: at the same moment, at the same time, and a root of many layers.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cooperage::container::ledger;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::contenders::{Bench, CHAPTERS, Contender, LIMITS, find};
use super::table::Table;
use super::{Outcome, median};

/// Containers a second with so many at a time, each from start to end.
pub fn many_at_a_time(bench: &Bench) -> Outcome<Table> {
    const REPEATS: usize = 5;
    let mut contenders = vec![
        bench.chapter(7, "chapter 7, limits", "", &format!("--network none {LIMITS}")),
        bench.floor(false),
        bench.chapter(7, "chapter 7, limits, bridge", "", LIMITS),
        bench.floor(true),
    ];
    contenders.extend(bench.oci("crun"));
    let mut table = Table::new(
        "many",
        "Containers a second, so many at a time",
        &["at a time", "chapter 7", "floor", "of the floor", "with bridge", "floor", "of the floor", "crun"],
    );
    for at_a_time in [1, 2, 8, 32] {
        let mut rates = vec![Vec::new(); contenders.len()];
        for _ in 0..REPEATS {
            for (which, contender) in contenders.iter().enumerate() {
                rates[which].push(rate(contender, at_a_time)?);
            }
        }
        let share = |one: usize, other: usize| {
            let shares = rates[one].iter().zip(&rates[other]).map(|(one, other)| one / other);
            format!("{:.2}", median(shares.collect()))
        };
        let rate = |which: usize| {
            rates.get(which).map_or(String::new(), |rates| format!("{:.0}", median(rates.clone())))
        };
        table.row(&[
            &at_a_time.to_string(),
            &rate(0),
            &rate(1),
            &share(0, 1),
            &rate(2),
            &rate(3),
            &share(2, 3),
            &rate(4),
        ]);
    }
    table.remark("Goal: at least 0.8 of the floor's.".to_string());
    table.print();
    Ok(table)
}

fn rate(contender: &Contender, at_a_time: usize) -> Outcome<f64> {
    let each = (96 / at_a_time).max(3);
    let begun = Instant::now();
    let failures: Vec<String> = std::thread::scope(|scope| {
        let runs = || (0..each).try_for_each(|_| contender.run().map_err(|error| error.to_string()));
        let threads: Vec<_> = (0..at_a_time).map(|_| scope.spawn(runs)).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()?.err()).collect()
    });
    if let Some(failure) = failures.first() {
        return Err(failure.clone().into());
    }
    Ok((each * at_a_time) as f64 / begun.elapsed().as_secs_f64())
}

/// The command that starts a container with this number.
type Starter = Box<dyn Fn(usize) -> Command>;

/// Five hundred containers alive at the same time: what the first ones cost, and the last ones, from the
/// start of the runtime to the first word of the command.
pub fn five_hundred(bench: &Bench) -> Outcome<Table> {
    const COUNT: usize = 500;
    const EDGE: usize = 25;
    let mut table = Table::new(
        "scale",
        "Five hundred containers alive at the same time: milliseconds until the command's first word",
        &["", "first 25", "last 25", "last / first", "a second, all", "end of all, s", "left over"],
    );
    let words = "echo; exec sleep 100000";
    let chapter = |number: usize, options: &str| {
        let mut command = Command::new(CHAPTERS[number - 1]);
        command.args(options.split(' ')).args(["--", "sh", "-c", words]);
        command
    };
    let none = format!("--network none {LIMITS}");
    let none_too = none.clone();
    let mut kinds: Vec<(&str, Starter)> = vec![
        ("chapter 7, limits", Box::new(move |_| chapter(7, &none))),
        ("chapter 7, limits, bridge", Box::new(move |_| chapter(7, LIMITS))),
        ("chapter 8, limits", Box::new(move |_| chapter(8, &none_too))),
        ("chapter 8, limits, bridge", Box::new(move |_| chapter(8, LIMITS))),
    ];
    let bundle = bench.bundle_of(&["/bin/sh", "-c", words])?;
    if let Some(crun) = find("crun") {
        let path = bundle.path().to_path_buf();
        kinds.push((
            "crun",
            Box::new(move |number| {
                let mut command = Command::new(&crun);
                command.arg("run").arg("--bundle").arg(&path).arg(format!("cooperage-many-{number}"));
                command
            }),
        ));
    }
    for (name, command) in kinds {
        // The kernel takes the network namespaces of the ones before apart in the background, and holds the
        // lock meanwhile that a new cable needs, too.
        std::thread::sleep(Duration::from_secs(20));
        let before = Things::now();
        let mut alive: Vec<Child> = Vec::new();
        let mut times = Vec::new();
        let begun = Instant::now();
        for number in 0..COUNT {
            let begun = Instant::now();
            let mut child = command(number).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
            let mut word = [0];
            if let Some(output) = &mut child.stdout {
                output.read_exact(&mut word).map_err(|error| format!("{name} number {number}: {error}"))?;
            }
            times.push(begun.elapsed().as_secs_f64() * 1e3);
            alive.push(child);
        }
        let rate = COUNT as f64 / begun.elapsed().as_secs_f64();
        let ending = Instant::now();
        for (number, child) in alive.iter().enumerate() {
            if name == "crun" {
                let id = format!("cooperage-many-{number}");
                Command::new("crun").args(["kill", &id, "KILL"]).status()?;
            } else {
                kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM)?;
            }
        }
        for mut child in alive {
            child.wait()?;
        }
        let ended = ending.elapsed().as_secs_f64();
        let left = before.left_over();
        let (first, last) = (median(times[..EDGE].to_vec()), median(times[COUNT - EDGE..].to_vec()));
        table.row(&[
            name,
            &format!("{first:.2}"),
            &format!("{last:.2}"),
            &format!("{:.2}", last / first),
            &format!("{rate:.0}"),
            &format!("{ended:.2}"),
            &left,
        ]);
    }
    table.print();
    Ok(table)
}

/// What a container could leave behind.
struct Things {
    count: [usize; 4],
}

impl Things {
    fn now() -> Things {
        let entries = |path: &Path| std::fs::read_dir(path).map_or(0, Iterator::count);
        let lines = |path: &str| std::fs::read_to_string(path).unwrap_or_default().lines().count();
        let state = ledger::state_directory().map(Path::to_path_buf).unwrap_or_default();
        Things {
            count: [
                lines("/proc/self/mountinfo"),
                lines("/proc/self/net/dev"),
                ["runtimes", "addresses", "uids"].map(|name| entries(&state.join(name))).iter().sum(),
                entries(Path::new("/sys/fs/cgroup/pids")) + entries(Path::new("/sys/fs/cgroup")),
            ],
        }
    }

    /// Is there more than before? (There may be less: the kernel removes the links of earlier containers late.)
    fn is_exceeded_by(&self, now: &Things) -> bool {
        now.count.iter().zip(&self.count).any(|(now, before)| now > before)
    }

    /// What is there more than before. The kernel removes links some time after their namespace's end: it is
    /// waited for.
    fn left_over(&self) -> String {
        let begun = Instant::now();
        while self.is_exceeded_by(&Things::now()) && begun.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let now = Things::now().count;
        let names = ["mounts", "links", "notes", "cgroups"];
        let left: Vec<String> = (0..names.len())
            .filter(|&index| now[index] > self.count[index])
            .map(|index| format!("{} {}", now[index] as i64 - self.count[index] as i64, names[index]))
            .collect();
        if left.is_empty() {
            format!("nothing, after {:.2} s", begun.elapsed().as_secs_f64())
        } else {
            left.join(", ")
        }
    }
}

/// Overlays of many layers. The chapters' command line takes one root filesystem, and a path with a colon in
/// it stays one path; so this is mount(2) itself, in a mount namespace of its own.
pub fn layers() -> Outcome<Table> {
    let directory = tempfile::tempdir()?;
    let place = directory.path().to_path_buf();
    // A thread may have its own mount namespace and working directory; a process's other threads keep theirs.
    let thread = std::thread::spawn(move || measure_layers(&place).map_err(|error| error.to_string()));
    let rows = thread.join().map_err(|_| "the thread failed")??;
    let mut table = Table::new(
        "layers",
        "An overlay of many layers, in microseconds",
        &["layers", "mount", "first look at a file in the lowest", "unmount"],
    );
    for (count, [mounting, opening, unmounting]) in rows {
        table.row(&[
            &count.to_string(),
            &format!("{mounting:.0}"),
            &format!("{opening:.0}"),
            &format!("{unmounting:.0}"),
        ]);
    }
    table.print();
    Ok(table)
}

fn measure_layers(place: &Path) -> Outcome<Vec<(usize, [f64; 3])>> {
    const NONE: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
    mount(Some("tmpfs"), place, Some("tmpfs"), MsFlags::empty(), NONE)?;
    std::env::set_current_dir(place)?; // this thread's alone, since the unshare
    for layer in 0..100 {
        std::fs::create_dir(layer.to_string())?;
        std::fs::write(format!("{layer}/file{layer}"), "")?;
    }
    for name in ["root", "upper", "work"] {
        std::fs::create_dir(name)?;
    }
    let mut rows = Vec::new();
    for count in [1usize, 10, 100] {
        let lowest = count - 1;
        let lower: Vec<String> = (0..count).map(|layer| layer.to_string()).collect();
        let options = format!("lowerdir={},upperdir=upper,workdir=work", lower.join(":"));
        let mut times: [Vec<f64>; 3] = Default::default();
        for _ in 0..40 {
            let begun = Instant::now();
            mount(Some("overlay"), "root", Some("overlay"), MsFlags::empty(), Some(options.as_str()))?;
            times[0].push(begun.elapsed().as_secs_f64() * 1e6);
            let begun = Instant::now();
            std::fs::metadata(format!("root/file{lowest}"))?;
            times[1].push(begun.elapsed().as_secs_f64() * 1e6);
            let begun = Instant::now();
            umount2("root", MntFlags::empty())?;
            times[2].push(begun.elapsed().as_secs_f64() * 1e6);
        }
        rows.push((count, times.map(median)));
    }
    Ok(rows)
}
