//! What a reader sees of a run: at its start how long it will take, while it runs what takes long, at its end why cases
//! were left out, each reason once.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, FormatSetting, Trial};

/// How many seconds each test program takes on the machine that they were measured on: two processors, all cases.
const MEASURED: [(&str, u64); 9] = [
    ("book", 1),
    ("breakouts", 70),
    ("chapters", 120),
    ("clients", 140),
    ("exercises", 240),
    ("lab", 15),
    ("oci", 60),
    ("overlay", 2),
    ("pages", 60),
];
/// How long that machine takes for a lab.
const MEASURED_LAB: Duration = Duration::from_millis(20);
/// How often it is said what takes long.
const INTERVAL: Duration = Duration::from_secs(20);

/// Why cases do not run: by what they need, the reason, and their names.
#[derive(Default)]
pub struct LeftOut(BTreeMap<String, (String, Vec<String>)>);

impl LeftOut {
    pub fn add(&mut self, case: &str, need: &str, reason: &str) {
        self.0
            .entry(need.to_string())
            .or_insert_with(|| (reason.to_string(), Vec::new()))
            .1
            .push(case.to_string());
    }

    /// Says each reason once, for those of the cases that were asked for.
    fn say(&self, arguments: &Arguments) {
        let chosen = |(need, (reason, cases)): (&'_ String, &'_ (String, Vec<String>))| {
            let count = cases.iter().filter(|case| is_chosen(arguments, case)).count();
            (count > 0).then(|| format!("  {count:>3}  needs {need}: {reason}"))
        };
        let lines: Vec<String> = self.0.iter().filter_map(chosen).collect();
        if !lines.is_empty() {
            println!("left out on this machine:\n{}\n", lines.join("\n"));
        }
    }
}

/// Was this case asked for, on the command line?
fn is_chosen(arguments: &Arguments, case: &str) -> bool {
    let is_named = |name: &String| if arguments.exact { case == name } else { case.contains(name.as_str()) };
    arguments.filter.as_ref().is_none_or(is_named) && !arguments.skip.iter().any(is_named)
}

/// Runs the trials; `lab` is how long a lab has taken here.
pub fn run(arguments: &Arguments, trials: Vec<Trial>, left_out: &LeftOut, lab: Option<Duration>) -> ExitCode {
    let talks =
        !arguments.list && !arguments.quiet && matches!(arguments.format, None | Some(FormatSetting::Pretty));
    if !talks {
        return libtest_mimic::run(arguments, trials).exit_code();
    }
    let whole = arguments.filter.is_none() && arguments.skip.is_empty() && !arguments.ignored;
    if whole {
        announce(lab);
    }
    let begun = Instant::now();
    let count =
        trials.iter().filter(|trial| is_chosen(arguments, trial.name()) && !trial.has_ignored_flag()).count();
    let one_at_a_time = arguments.test_threads == Some(1);
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(INTERVAL);
            say_what_takes_long(begun, count, one_at_a_time);
        }
    });
    let conclusion = libtest_mimic::run(arguments, trials);
    if whole && !conclusion.has_failed() {
        let _ = place(&program()).map(|file| std::fs::write(file, begun.elapsed().as_secs().to_string()));
    }
    left_out.say(arguments);
    conclusion.exit_code()
}

/// The name of this test program: cargo has put a hash behind it.
fn program() -> String {
    let program = std::env::current_exe().unwrap_or_default();
    let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    name.rsplit_once('-').map_or(name.clone(), |(name, _)| name.to_string())
}

/// Where it is kept how long a program took here, so that it is known the next time.
fn place(program: &str) -> std::io::Result<PathBuf> {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("seconds");
    std::fs::create_dir_all(&directory)?;
    Ok(directory.join(program))
}

fn announce(lab: Option<Duration>) {
    let slower = lab.map_or(1.0, |lab| (lab.as_secs_f64() / MEASURED_LAB.as_secs_f64()).clamp(0.7, 5.0));
    let here = |(program, measured): &(&str, u64)| {
        let kept =
            place(program).and_then(std::fs::read_to_string).ok().and_then(|text| text.trim().parse().ok());
        kept.unwrap_or((*measured as f64 * slower) as u64)
    };
    let own = MEASURED.iter().find(|(name, _)| *name == program()).map(here);
    let all = MEASURED.iter().map(here).sum();
    if let Some(own) = own {
        let (own, all) = (in_words(own), in_words(all));
        println!("\n{}: about {own} on this machine; all of `cargo test`: about {all}", program());
    }
}

fn in_words(seconds: u64) -> String {
    match seconds {
        0..90 => format!("{} s", seconds.max(1)),
        _ => format!("{} min", (seconds + 30) / 60),
    }
}

static RUNNING: Mutex<BTreeMap<String, Instant>> = Mutex::new(BTreeMap::new());
static DONE: AtomicUsize = AtomicUsize::new(0);

/// Runs a case, of which it is known meanwhile that it runs.
pub fn watched<T>(name: &str, case: impl FnOnce() -> T) -> T {
    let running = || RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    running().insert(name.to_string(), Instant::now());
    let result = case();
    running().remove(name);
    DONE.fetch_add(1, Ordering::Relaxed);
    result
}

fn say_what_takes_long(begun: Instant, count: usize, one_at_a_time: bool) {
    let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    let long = running.iter().filter(|(_, start)| start.elapsed() >= INTERVAL / 2);
    let long: Vec<String> =
        long.map(|(name, start)| format!("{name} ({} s)", start.elapsed().as_secs())).collect();
    let (done, elapsed) = (DONE.load(Ordering::Relaxed), in_words(begun.elapsed().as_secs()));
    if !long.is_empty() {
        // With one at a time its name is printed before it runs, without the end of the line.
        let start = if one_at_a_time { "\n" } else { "" };
        eprintln!(
            "{start}     {done} of {count} have run in {elapsed}; this takes longer: {}",
            long.join(", ")
        );
    }
}
