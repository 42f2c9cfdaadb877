//! How the tests of this crate run: every case in a lab of its own, so that no test touches the machine.
//!
//! The test program starts itself again inside a lab. There the case is root of a throw-away host, can
//! start chapters, look at them from outside, and leave what it likes: the lab's end takes it away, also
//! when the test is killed. A case that needs what this machine lacks is reported as ignored with the
//! reason; `COOPERAGE_REQUIRE=all` (or a list of features; `all,-cgroup-v1` is all but one) makes that a failure.

#![allow(dead_code)] // each test program uses a part of this

pub mod run;
pub mod session;
pub mod sweep;
pub mod told;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use cooperage::workshop::doctor;
use cooperage::workshop::lab::Layout;
use cooperage::workshop::lab::harness::{self, Ending, Harness};
use libtest_mimic::{Arguments, Failed, Trial};

/// Who starts the chapters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// The lab's root.
    Root,
    /// User 65534, who has no right at all.
    User,
}

/// One test.
#[derive(Clone, Copy)]
pub struct Case {
    /// Its name, without who runs it.
    pub name: &'static str,
    /// As whom it runs.
    pub who: &'static [Who],
    /// Features of the machine that it cannot do without, by the doctor's names.
    pub needs: &'static [&'static str],
    /// What its lab's /sys/fs/cgroup looks like.
    pub lab: Layout,
    /// The test itself: it panics when it fails.
    pub test: fn(Who),
}

/// Run by root, and by an ordinary user.
pub const BOTH: &[Who] = &[Who::Root, Who::User];
/// Run by root.
pub const ROOT: &[Who] = &[Who::Root];
/// Run by an ordinary user.
pub const USER: &[Who] = &[Who::User];

impl Case {
    /// A case that every chapter's features suffice for.
    pub const fn new(name: &'static str, who: &'static [Who], test: fn(Who)) -> Case {
        Case { name, who, needs: &[], lab: Layout::Host, test }
    }

    /// It needs these features of the machine.
    pub const fn needs(self, needs: &'static [&'static str]) -> Case {
        Case { needs, ..self }
    }

    /// It runs in a lab with these cgroups.
    pub const fn lab(self, lab: Layout) -> Case {
        Case { lab, ..self }
    }
}

/// Not a feature of the machine but of whoever runs the tests.
pub const ANOTHER_USER: &str = "another-user";

/// Not a feature of the machine either: whoever runs the tests is root.
pub const ROOT_ITSELF: &str = "root-itself";

/// Cgroups of version 2 are mounted, with controllers or without.
pub const CGROUP2_MOUNTED: &str = "cgroup2-mounted";

/// The machine's /dev is the kernel's own, and not one that a container engine has made.
pub const DEVTMPFS: &str = "devtmpfs";

/// The schemas of the runtime specification, and a program that reads them.
pub const OCI_SCHEMAS: &str = "oci-schemas";

/// Where Debian has the schemas; or wherever `OCI_SCHEMAS` says.
pub fn schemas() -> PathBuf {
    let usual = "/usr/share/gocode/src/github.com/opencontainers/runtime-spec/schema";
    std::env::var_os("OCI_SCHEMAS").map_or(usual.into(), PathBuf::from)
}

fn missing_schemas() -> Option<String> {
    let place = schemas();
    if !place.join("state-schema.json").is_file() {
        let place = place.display();
        return Some(format!(
            "there is no {place}; install golang-github-opencontainers-specs-dev, or say OCI_SCHEMAS=DIR"
        ));
    }
    python_with_schemas()
        .is_none()
        .then(|| "python3 has no jsonschema; install python3-jsonschema".to_string())
}

/// A Python that reads schemas: the first in PATH, or Debian's, which has what Debian's packages bring.
pub fn python_with_schemas() -> Option<&'static str> {
    ["python3", "/usr/bin/python3"].into_iter().find(|program| {
        let found =
            std::process::Command::new(program).args(["-W", "ignore", "-c", "import jsonschema"]).output();
        found.is_ok_and(|output| output.status.success())
    })
}

static CASE: OnceLock<String> = OnceLock::new();

/// The case that this process runs, if it runs one: `NAME::root` or `NAME::user`.
pub fn current_case() -> Option<&'static str> {
    CASE.get().map(String::as_str)
}

/// The main function of a test program.
pub fn main(cases: Vec<Case>) -> ExitCode {
    if let Some(status) = harness::take_over(|case| inside(&cases, case)) {
        return status;
    }
    run_cases(&cases, Arguments::from_args(), in_lab)
}

/// The main function of a test program whose cases look at the lab from outside: on the machine itself. So they
/// run one at a time: one would see another's lab.
pub fn on_the_machine(cases: Vec<Case>) -> ExitCode {
    let arguments = Arguments { test_threads: Some(1), ..Arguments::from_args() };
    run_cases(&cases, arguments, |case, _| {
        let test = case.test;
        std::panic::catch_unwind(|| test(Who::Root)).map_err(|_| Failed::from("see above"))
    })
}

fn run_cases(cases: &[Case], arguments: Arguments, run: fn(&Case, Who) -> Result<(), Failed>) -> ExitCode {
    let mut machine = Machine::default();
    let mut left_out = told::LeftOut::default();
    let mut trials = Vec::new();
    for case in cases {
        for &who in case.who {
            let name = label(case, who);
            let case = *case;
            let lack = machine.lacks(&case, who);
            let trial = trial(name, lack, move || run(&case, who), &mut left_out);
            trials.push(trial);
        }
    }
    told::run(&arguments, trials, &left_out, machine.lab)
}

/// A trial that runs where the machine lacks nothing; where it does, it is ignored, or fails if that was said to be required.
pub fn trial(
    name: String,
    lack: Option<Lack>,
    run: impl FnOnce() -> Result<(), Failed> + Send + 'static,
    left_out: &mut told::LeftOut,
) -> Trial {
    match lack {
        Some(Lack { need, reason }) if is_required(&need) => {
            Trial::test(name, move || Err(Failed::from(format!("needs {need}: {reason}"))))
        }
        Some(Lack { need, reason }) => {
            left_out.add(&name, &need, &reason);
            // Short: all names are padded to the longest.
            Trial::test(name, || Ok(())).with_kind(format!("needs {need}")).with_ignored_flag(true)
        }
        None => Trial::test(name.clone(), move || told::watched(&name, run)),
    }
}

fn label(case: &Case, who: Who) -> String {
    format!("{}::{}", case.name, if who == Who::Root { "root" } else { "user" })
}

/// Was it said that nothing may be skipped because this feature is missing?
pub fn is_required(feature: &str) -> bool {
    let required = std::env::var("COOPERAGE_REQUIRE").unwrap_or_default();
    let excepted = required.split(',').any(|word| word.strip_prefix('-') == Some(feature));
    !excepted && required.split(',').any(|word| word == "all" || word == feature)
}

/// What this machine lacks for a case.
#[derive(Debug, Clone)]
pub struct Lack {
    /// The feature, by the doctor's name or by one of ours.
    pub need: String,
    /// What is missing, and what helps.
    pub reason: String,
}

/// What has been found out about this machine.
#[derive(Default)]
pub struct Machine {
    known: BTreeMap<String, Option<String>>,
    /// How long it took to make a lab.
    pub lab: Option<Duration>,
}

impl Machine {
    /// The first of a case's needs that this machine does not have.
    fn lacks(&mut self, case: &Case, who: Who) -> Option<Lack> {
        let root = nix::unistd::geteuid().is_root();
        let mut needs = vec!["lab"];
        needs.extend(case.needs);
        if who == Who::User {
            needs.push("user-namespace");
        }
        needs.into_iter().find_map(|need| match need {
            ANOTHER_USER if who == Who::Root || root => None,
            ANOTHER_USER => Some(lack(
                need,
                "an ordinary user can't start several programs as one other user; run as root",
            )),
            ROOT_ITSELF if root => None,
            ROOT_ITSELF => Some(lack(need, "it looks at the containers of the machine's root; run as root")),
            CGROUP2_MOUNTED if is_mounted("cgroup2") => None,
            CGROUP2_MOUNTED => Some(lack(need, "version 2 of cgroups is not mounted here")),
            DEVTMPFS if is_mounted("devtmpfs") => None,
            DEVTMPFS => Some(lack(
                need,
                "a container engine has made this /dev, and what is borrowed from it looks otherwise",
            )),
            OCI_SCHEMAS => missing_schemas().map(|reason| lack(need, &reason)),
            need => self.lacks_feature(need),
        })
    }

    /// Is this feature of the doctor's missing?
    pub fn lacks_feature(&mut self, need: &str) -> Option<Lack> {
        if !self.known.contains_key(need) {
            let begun = Instant::now();
            let missing = doctor::check(need).err().map(|error| {
                let remedy = error.advice().map(|advice| format!("; {advice}")).unwrap_or_default();
                format!("{}{remedy}", error.reason())
            });
            if need == "lab" && missing.is_none() {
                // The first may have had to assemble a root filesystem, or to wait.
                let again = Instant::now();
                let _ = doctor::check(need);
                self.lab = Some(again.elapsed().min(again - begun));
            }
            self.known.insert(need.to_string(), missing);
        }
        self.known[need].as_deref().map(|reason| lack(need, reason))
    }
}

/// Is a filesystem of this kind mounted on this machine?
fn is_mounted(kind: &str) -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mounts.contains(&format!(" - {kind} "))
}

fn lack(need: &str, reason: &str) -> Lack {
    Lack { need: need.to_string(), reason: reason.to_string() }
}

/// Runs the case in a lab, and fails with all that it said.
fn in_lab(case: &Case, who: Who) -> Result<(), Failed> {
    let mut environment: Vec<_> = std::env::vars_os().collect();
    environment.push(("RUST_BACKTRACE".into(), "0".into()));
    let harness = Harness {
        directory: repository(),
        cgroups: case.lab,
        environment: Some(environment),
        // No judgement on speed: a case that hangs has to end some time, and its lab with it.
        bound: Duration::from_secs(600),
    };
    let done = harness.run(&label(case, who)).map_err(|error| error.to_string())?;
    let ending = match done.ending {
        Ending::InTime if done.status.success() => return Ok(()),
        Ending::InTime => done.status.to_string(),
        Ending::Late => "it hung".to_string(),
        Ending::Stopped => "it was stopped by SIGSTOP".to_string(),
    };
    Err(format!("{ending}\n{}{}", done.out, done.err).into())
}

fn inside(cases: &[Case], wanted: &str) -> ExitCode {
    let wanted = CASE.get_or_init(|| wanted.to_string());
    let Some((name, who)) = wanted.rsplit_once("::") else { return ExitCode::from(2) };
    let who = if who == "user" { Who::User } else { Who::Root };
    let Some(case) = cases.iter().find(|case| case.name == name) else {
        eprintln!("there is no case {name}");
        return ExitCode::from(2);
    };
    run::prepare(who);
    (case.test)(who); // a panic ends the program with status 101
    ExitCode::SUCCESS
}

/// Compares `text` with the snapshot `KIND/NAME`, a file in the folder tests/snapshots/KIND/.
pub fn is_snapshot(name: &str, filters: &[(&str, &str)], text: impl AsRef<str>) {
    compare_snapshot(snapshots(filters), name, text);
}

/// Compares as [`is_snapshot`] does, with settings that [`snapshots`] has made.
pub fn compare_snapshot(mut settings: insta::Settings, name: &str, text: impl AsRef<str>) {
    let (kind, name) = name.split_once('/').expect("a snapshot is called KIND/NAME");
    settings.set_snapshot_path(repository().join("tests/snapshots").join(kind));
    settings.bind(|| insta::assert_snapshot!(name, text.as_ref()));
}

/// Settings for a snapshot: without the machine's own details, which the filters hide.
pub fn snapshots(filters: &[(&str, &str)]) -> insta::Settings {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    for (pattern, replacement) in filters {
        settings.add_filter(pattern, *replacement);
    }
    settings
}

/// The directory of the repository. A test may belong to a package below it.
pub fn repository() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.ancestors().find(|directory| directory.join("Cargo.lock").is_file()).unwrap_or(package)
}

/// The directory of the programs that were built with this test, which is in `deps/` below it.
pub fn built() -> PathBuf {
    let test = std::env::current_exe().expect("a test is a program");
    test.ancestors().nth(2).expect("it is in target/debug/deps").to_path_buf()
}

/// Where the crate's programs are, as this user can reach them.
pub fn binary(name: &str, who: Who) -> PathBuf {
    match who {
        Who::Root => built().join(name),
        // The repository may be in a directory that only root may enter.
        Who::User => Path::new(run::USERS_VIEW).join(name),
    }
}

/// Writes a file only when that changes it, so that cargo need not build it again. Has it?
pub fn write_if_other(file: &Path, text: &str) -> bool {
    let other = std::fs::read_to_string(file).ok().as_deref() != Some(text);
    if other {
        let parent = file.parent().expect("a file in a directory");
        std::fs::create_dir_all(parent).expect("a directory below target/");
        std::fs::write(file, text).expect("writable");
    }
    other
}
