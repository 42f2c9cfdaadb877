//! The checks of chapter 10: an OCI runtime. Its command line is the standard's, and what it is to do is in a config.json.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::check::{Check, Failure, Run, Trial, namespace};

/// In the order of the tasks.
pub const CHECKS: &[Check] = &[
    Check {
        task: "10.1",
        explain: "Creates two containers, and looks at what is there besides them: nobody may wait with them. For more than a second their \
                  processes may use no processor time and may not be woken once, and SIGCONT may not start them. Then starts one: the same \
                  process must become its command, once, and the other must still wait. To start it again must fail, and so must to \
                  start the other, whose process has been killed by then.",
        needs: &[],
        run: gate,
    },
    Check {
        task: "10.2",
        explain: "Asks for the state of a container that was created, that runs, and whose process calls itself a name with brackets and spaces. \
                  Then kills that process and does not wait for it, so that it is a zombie; waits for it, so that there is none; and gives its \
                  number to another process. Each time the state must be stopped, `kill` must fail, and the other process live on.",
        needs: &[],
        run: state,
    },
    Check {
        task: "10.3",
        explain: "Creates a container with hooks that note what is on their stdin, in their environment and their arguments, and leave a process \
                  behind, which must live on. Then hooks that end with a random status, by a signal, that are no program, or that take too \
                  long, with a state of 100 KB that they do not read, and with children: `create` must fail, in time, no later hook may run, and \
                  no process, mount or container may be left.",
        needs: &[],
        run: hooks,
    },
    Check {
        task: "10.4",
        explain: "Runs a command in directories with random names: one that is there, one that is not, and one that a link in the root \
                  filesystem leads to. Then asks for a file, for a path without / at its beginning, and for a directory of the host's that the \
                  caller has left open, by its path in /proc/self/fd and by a link: the command may not run.",
        needs: &[],
        run: directory,
    },
];

/// A command that is still there when it is looked at: also that of a program which knows no gate yet.
const STAYS: &str = "exec sleep 99999";

/// The runtime, with a place for what it notes, and a bundle.
struct Runtime<'a> {
    trial: &'a mut Trial,
    root: String,
    bundle: PathBuf,
}

impl Runtime<'_> {
    /// `task` is the one that is looked at.
    fn new<'a>(trial: &'a mut Trial, task: &str) -> Runtime<'a> {
        trial.without_rootfs();
        trial.set_variable("COOPERAGE_TASK", task);
        let rootfs = trial.copy_of_rootfs();
        let root = trial.directory().join("containers").display().to_string();
        let bundle = rootfs.parent().unwrap_or(&rootfs).to_path_buf();
        let runtime = Runtime { trial, root, bundle };
        runtime.must("make a bundle", fs::create_dir_all(runtime.out("")));
        runtime
    }

    fn must<T>(&self, what: &str, done: std::io::Result<T>) -> T {
        match done {
            Ok(done) => done,
            Err(error) => crate::check::cannot(what, error),
        }
    }

    /// A file of the root filesystem's, in a directory that commands write to.
    fn out(&self, name: &str) -> PathBuf {
        self.bundle.join("rootfs/out").join(name)
    }

    fn said(&self, name: &str) -> String {
        fs::read_to_string(self.out(name)).unwrap_or_default()
    }

    /// Writes config.json: a shell that runs this script, with these changes.
    fn configure(&self, script: &str, change: impl Fn(&mut Value)) {
        let mut config = json!({
            "ociVersion": "1.2.1",
            "root": { "path": "rootfs" },
            "process": {
                "user": { "uid": 0, "gid": 0 },
                "args": ["/bin/sh", "-c", script],
                "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
                "cwd": "/",
            },
            "mounts": [
                { "destination": "/proc", "type": "proc", "source": "proc" },
                { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"] },
            ],
            "linux": {
                "namespaces": [{ "type": "pid" }, { "type": "mount" }, { "type": "ipc" }, { "type": "uts" }],
            },
        });
        change(&mut config);
        self.must("write config.json", fs::write(self.bundle.join("config.json"), format!("{config:#}")));
    }

    fn run(&mut self, words: &[&str]) -> Result<Run, Failure> {
        let root = self.root.clone();
        let mut args = vec!["--root", &root];
        args.extend(words);
        self.trial.run(&args)
    }

    fn create(&mut self, id: &str) -> Result<Run, Failure> {
        let (bundle, file) = (self.bundle.display().to_string(), self.pid_file(id).display().to_string());
        self.run(&["create", "--bundle", &bundle, "--pid-file", &file, id])
    }

    fn pid_file(&self, id: &str) -> PathBuf {
        self.bundle.join(format!("{id}.pid"))
    }

    /// Creates one, which must succeed: its process's number, as the pid file has it.
    fn created(&mut self, id: &str) -> Result<(Run, i32), Failure> {
        self.created_or(
            id,
            "the first of the five commands: all that it has to make is made, down to the last mount",
        )
    }

    /// The same; if it fails, this is why.
    fn created_or(&mut self, id: &str, lesson: &str) -> Result<(Run, i32), Failure> {
        let run = self.create(id)?;
        run.success(lesson)?;
        let text = fs::read_to_string(self.pid_file(id)).unwrap_or_default();
        match text.trim().parse() {
            Ok(pid) if is_there(pid) => Ok((run, pid)),
            _ => Err(run.fail(
                "the pid file has the number of a process that is there",
                format!("{:?}", text.trim()),
                "the number is the one that the host knows the container's first process by, and it stays that of the command",
            )),
        }
    }

    /// Its state, or why there is none.
    fn state(&mut self, id: &str) -> Result<(Run, Value), Failure> {
        let run = self.run(&["state", id])?;
        match serde_json::from_str(&run.out) {
            Ok(state) if run.status == 0 => Ok((run, state)),
            _ => {
                let said = run.said();
                Err(run.fail(
                    "JSON, and status 0",
                    said,
                    "the state is an object: runtime.md of the standard has its fields",
                ))
            }
        }
    }
}

/// What is in /proc/PID/stat behind the name, from field 3 on.
fn fields(pid: i32) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let rest = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    rest.split_whitespace().map(str::to_string).collect()
}

fn is_there(pid: i32) -> bool {
    fields(pid).first().is_some_and(|state| state != "Z" && state != "X")
}

fn is_zombie(pid: i32) -> bool {
    fields(pid).first().is_some_and(|state| state == "Z")
}

/// All processes of the host that are no zombies.
fn processes() -> BTreeSet<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|&pid| is_there(pid))
        .collect()
}

fn command_line(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/cmdline"))
        .unwrap_or_default()
        .replace('\0', " ")
        .trim()
        .to_string()
}

/// Processor time, and how often it was scheduled, by all threads.
fn effort(pid: i32) -> Vec<String> {
    let mut effort = fields(pid).get(11..13).unwrap_or_default().to_vec();
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    for thread in threads {
        let text = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        effort.extend(text.lines().filter(|line| line.contains("ctxt_switches")).map(str::to_string));
    }
    effort
}

fn send(pid: i32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid), signal);
}

fn gate(trial: &mut Trial) -> Result<(), Failure> {
    const LESSON: &str = "who waits for something that only the kernel can see, such as another end of a FIFO or a connection, is woken by \
                          the kernel, and by nothing else. Whoever looks again and again is woken each time";
    let (number, mark, other) = (trial.number(1000, 9999), trial.word(), trial.word());
    let mut runtime = Runtime::new(trial, "10.1");
    let before = processes();
    let script = |mark: &str| format!("echo ran >>/out/{mark}; exec sleep {number}");
    runtime.configure(&script(&mark), |_| {});
    let (first, pid) = runtime.created("one")?;
    runtime.configure(&script(&other), |_| {});
    let (second, waiting) = runtime.created("two")?;

    let mut others = BTreeSet::new();
    let own = namespace(std::process::id() as i32, "pid");
    let alone = runtime.trial.eventually(|| {
        others = processes();
        others.retain(|&one| {
            let is_outside = namespace(one, "pid") == own;
            !before.contains(&one) && ![pid, waiting].contains(&one) && is_outside
        });
        others.is_empty()
    });
    if !alone {
        let program = |pid: &i32| {
            let line = command_line(*pid);
            let first = line.split(' ').next().unwrap_or_default().to_string();
            first.rsplit('/').next().unwrap_or_default().to_string()
        };
        let saw: Vec<String> = others.iter().map(program).collect();
        return Err(first.fail(
            "after create there is the container's process, and no other that waits with it",
            shorten(&saw.join(", ")),
            "there is nobody who could watch: the program that has made the container has ended, and the one that starts it is not there yet",
        ));
    }
    let ran = |runtime: &Runtime| {
        [(&first, &mark), (&second, &other)]
            .into_iter()
            .find(|(_, mark)| !runtime.said(mark).is_empty())
            .map(|(run, _)| run)
    };
    let too_early = "created is not running: the process stands still before its last step, execve(2), until somebody says start";
    // Until it has come to stand.
    let both = || [effort(pid), effort(waiting)];
    runtime.trial.eventually(|| {
        let now = both();
        std::thread::sleep(Duration::from_millis(100));
        now == both()
    });
    let then = both();
    std::thread::sleep(Duration::from_millis(1200));
    let now = both();
    if let Some(run) = ran(&runtime) {
        return Err(run.fail("the command does not run before start", "it ran", too_early));
    }
    if now != then || !is_there(pid) || !is_there(waiting) {
        let saw = if is_there(pid) && is_there(waiting) { "it did something" } else { "it ended" };
        return Err(first.fail(
            "for more than a second the process that waits does nothing at all, and is there",
            saw,
            LESSON,
        ));
    }
    [pid, waiting].into_iter().for_each(|pid| send(pid, Signal::SIGCONT));
    std::thread::sleep(Duration::from_millis(200));
    if let Some(run) = ran(&runtime) {
        return Err(run.fail(
            "SIGCONT does not start it",
            "it ran",
            "who stops a process is not the only one who can let it go on: anybody's SIGCONT does",
        ));
    }

    let run = runtime.run(&["start", "one"])?;
    run.success("it opens the gate, and somebody waits there")?;
    let command = format!("sleep {number}");
    let became = runtime.trial.eventually(|| command_line(pid) == command);
    if !became || runtime.said(&mark) != "ran\n" {
        let saw = format!(
            "the process is {:?}, and its script ran {} times",
            command_line(pid),
            runtime.said(&mark).lines().count()
        );
        return Err(run.fail(
            "the process that has waited becomes the command, which runs once",
            saw,
            "clients know the container by that number since create",
        ));
    }
    std::thread::sleep(Duration::from_millis(200));
    if !runtime.said(&other).is_empty() {
        return Err(run.fail(
            "one container is started",
            "the other one runs, too",
            "each container has a gate of its own",
        ));
    }
    let again = runtime.run(&["start", "one"])?;
    if again.status == 0 {
        let said = again.said();
        return Err(again.fail(
            "a container that runs can't be started",
            said,
            "nobody waits at its gate any more",
        ));
    }
    send(waiting, Signal::SIGKILL);
    runtime.trial.eventually(|| !is_there(waiting));
    let dead = runtime.run(&["start", "two"])?;
    if dead.status == 0 {
        let said = dead.said();
        return Err(dead.fail(
            "a container whose process is dead can't be started",
            said,
            "nobody waits at its gate any more",
        ));
    }
    if runtime.said(&mark) != "ran\n" || !runtime.said(&other).is_empty() {
        return Err(dead.fail("a command runs once, when it is started", "it ran once more", too_early));
    }
    Ok(())
}

fn state(trial: &mut Trial) -> Result<(), Failure> {
    const NAMES: [&str; 3] = ["x) Z (y", "a) Z 1 (b", ") Z 0 0 (()"];
    let name = NAMES[trial.number(0, NAMES.len() as u64 - 1) as usize];
    let (ready, number) = (trial.word(), trial.number(1000, 9999));
    trial.adopt_orphans();
    let mut runtime = Runtime::new(trial, "10.2");
    let script = format!("printf %s '{name}' >/proc/self/comm; echo up >/out/{ready}; sleep {number}; :");
    runtime.configure(&script, |_| {});
    let (_, pid) = runtime.created("one")?;
    let has_pid = |state: &Value| state["pid"].as_i64() == Some(pid.into());
    let (run, state) = runtime.state("one")?;
    if state["status"] != "created" || !has_pid(&state) || state["id"] != "one" {
        return Err(run.fail(
            "id is one, status created, and pid the number in the pid file",
            shown(&state, pid),
            "nobody has started it",
        ));
    }
    runtime.run(&["start", "one"])?.success("it was created, and its process lives")?;
    runtime.trial.eventually(|| runtime.said(&ready) == "up\n");
    let (run, state) = runtime.state("one")?;
    if state["status"] != "running" || !has_pid(&state) {
        return Err(run.fail(
            format!("its process calls itself {name:?}: the status is running, and the pid the number in the pid file"),
            shown(&state, pid),
            "the name in /proc/PID/stat is whatever the process likes, spaces and brackets too; the fields behind its last bracket are the \
             kernel's. Of these the time of birth stays the same as long as it lives",
        ));
    }

    send(pid, Signal::SIGKILL);
    runtime.trial.eventually(|| is_zombie(pid) || !is_there(pid));
    stopped(
        &mut runtime,
        pid,
        "its process is a zombie",
        "a zombie has a number and a line in /proc/PID/stat, but it runs no more: its state is Z",
    )?;
    runtime.trial.reap(pid);
    stopped(
        &mut runtime,
        pid,
        "its process is gone",
        "what was noted says how it was, and the kernel how it is",
    )?;
    runtime.trial.occupy(pid);
    stopped(
        &mut runtime,
        pid,
        "its process is gone, and another has its number",
        "numbers are given again and again. It is the same process only if it was born at the same time, too: field 22 of /proc/PID/stat",
    )?;
    let run = runtime.run(&["delete", "one"])?;
    run.success("what has stopped can be deleted")?;
    if !is_there(pid) {
        return Err(run.fail(
            "the other process lives on",
            "it was ended",
            "a number alone hits whoever has it now",
        ));
    }
    let gone = runtime.run(&["state", "one"])?;
    if gone.status == 0 {
        let said = gone.said();
        return Err(gone.fail(
            "after delete there is no such container",
            said,
            "delete removes all that was noted",
        ));
    }
    Ok(())
}

/// The state without what differs from run to run.
fn shown(state: &Value, pid: i32) -> String {
    let what = |name: &str| state.get(name).map_or("none".to_string(), Value::to_string);
    let number =
        if state["pid"].as_i64() == Some(pid.into()) { "that number".to_string() } else { what("pid") };
    format!("id {}, status {}, pid {number}", what("id"), what("status"))
}

/// The state is stopped, and `kill` kills nobody.
fn stopped(runtime: &mut Runtime, pid: i32, what: &str, lesson: &str) -> Result<(), Failure> {
    let (run, state) = runtime.state("one")?;
    let no_pid = matches!(state["pid"].as_i64(), None | Some(0));
    if state["status"] != "stopped" || !no_pid {
        return Err(run.fail(
            format!("{what}: the status is stopped, and there is no pid"),
            shown(&state, pid),
            lesson,
        ));
    }
    let had_one = is_there(pid);
    let run = runtime.run(&["kill", "one", "KILL"])?;
    if run.status == 0 || had_one && !is_there(pid) {
        let saw =
            if had_one && !is_there(pid) { "the other process was ended".to_string() } else { run.said() };
        return Err(run.fail(format!("{what}: there is nobody to kill"), saw, lesson));
    }
    Ok(())
}

/// A hook that is a shell with this script.
fn hook(script: &str) -> Value {
    json!({ "path": "/bin/sh", "args": ["hook", "-c", script], "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"] })
}

fn hooks(trial: &mut Trial) -> Result<(), Failure> {
    let (word, value) = (trial.word(), trial.word());
    let number = trial.number(1000, 9999);
    let mut runtime = Runtime::new(trial, "10.3");
    let notes = runtime.trial.directory();
    let note = |name: &str| fs::read_to_string(notes.join(name)).unwrap_or_default();
    let place = notes.display().to_string();
    let mut good = hook(&format!(
        "readlink /proc/self/ns/pid /proc/self/ns/mnt >{place}/where; cat >{place}/stdin; cat /proc/$$/environ >{place}/environ; printf '%s,' \"$@\" >{place}/args; echo 1 >>{place}/order; sleep {number} &"
    ));
    good["args"]
        .as_array_mut()
        .into_iter()
        .for_each(|args| args.extend([json!("zero"), json!("two words"), json!(word)]));
    let environment =
        ["PATH=/usr/sbin:/usr/bin:/sbin:/bin".to_string(), format!("WORD={value}"), "EMPTY=".to_string()];
    good["env"] = json!(environment);
    good["timeout"] = json!(6);
    let second = hook(&format!("echo 2 >>{place}/order"));
    runtime.configure(STAYS, |config| config["hooks"] = json!({ "createRuntime": [good, second] }));
    let begun = Instant::now();
    let (run, pid) = runtime.created("one")?;
    if begun.elapsed() > Duration::from_secs(4) {
        return Err(run.fail(
            "create ends when the hooks have ended",
            "it took as long as a hook may take",
            "the limit is the most that it may take; and what a hook leaves behind is not waited for",
        ));
    }
    let own = std::process::id() as i32;
    let here = ["pid", "mnt"].map(|kind| namespace(own, kind).unwrap_or_default());
    if !note("where").lines().eq(here.iter().map(String::as_str)) {
        let saw = if note("where").is_empty() { "it was not run" } else { "it is in another" };
        return Err(run.fail("a createRuntime hook is in the runtime's own namespaces for processes and mounts", saw, "it is to do outside what only somebody outside can do; and who is in a PID namespace ends with its process 1"));
    }
    let state: Value = serde_json::from_str(&note("stdin")).unwrap_or_default();
    let bundle = fs::canonicalize(&runtime.bundle).unwrap_or_default();
    if state["id"] != "one"
        || state["pid"].as_i64() != Some(pid.into())
        || state["bundle"].as_str() != bundle.to_str()
    {
        let saw = if state.is_null() { "no JSON".to_string() } else { shown(&state, pid) };
        return Err(run.fail(
            "a hook reads the container's state on its stdin: id, pid, bundle",
            saw,
            "a hook knows nothing else of the container: Docker's finds its network namespace by that pid",
        ));
    }
    let mut found: Vec<&str> = Vec::new();
    let text = note("environ");
    found.extend(text.split('\0').filter(|text| !text.is_empty()));
    found.sort_unstable();
    let mut wanted: Vec<&str> = environment.iter().map(String::as_str).collect();
    wanted.sort_unstable();
    if found != wanted {
        let saw = found.join(" ").replace(&value, "VALUE");
        return Err(run.fail(
            "a hook's environment is what config.json says: PATH, WORD and EMPTY",
            shorten(&saw),
            "what the runtime has in its own environment is nothing to a hook",
        ));
    }
    let args = note("args");
    if args != format!("two words,{word},") {
        return Err(run.fail(
            "the hook's arguments are args from the second on",
            args.replace(&word, "WORD"),
            "args[0] is what the program is called, as for execve(2)",
        ));
    }
    if note("order") != "1\n2\n" {
        return Err(run.fail(
            "the hooks are run one after the other, in their order",
            note("order").replace('\n', " "),
            "config.json has a list",
        ));
    }
    let left_behind = format!("sleep {number}");
    if !processes().into_iter().any(|pid| command_line(pid) == left_behind) {
        return Err(run.fail("what a hook leaves behind that has done its work in time lives on", "it was ended", "a hook may start a server and be done: only its time being up is a reason to end what it has started"));
    }

    let (status, slow) = (runtime.trial.number(1, 99), runtime.trial.number(10_000, 20_000));
    let mut late =
        hook(&format!("trap '' TERM; sleep {slow} & sh -c 'sleep {slow} & wait' & sleep {slow}; :"));
    late["timeout"] = json!(1);
    let bad = [
        ("a hook that ends with another status than 0", hook(&format!("exit {status}"))),
        ("a hook that a signal ends", hook("kill -KILL $$")),
        ("a hook that is not there", json!({ "path": "/opt/no-such-hook" })),
        ("a hook whose time is up, and which does not read its stdin", late),
    ];
    for (index, (what, hook)) in bad.into_iter().enumerate() {
        fails(&mut runtime, what, hook, &notes, &format!("bad{index}"))?;
    }
    Ok(())
}

/// `create` fails because of this hook, and leaves nothing.
fn fails(runtime: &mut Runtime, what: &str, bad: Value, notes: &Path, id: &str) -> Result<(), Failure> {
    const LESSON: &str = "what create can't finish it takes back: the process, what was noted, the mounts. And all that a hook has started and \
                          that is not done in time ends with it: a process group can be ended as a whole";
    let long = "x".repeat(100_000);
    let after = hook(&format!("echo later >>{}/later", notes.display()));
    runtime.configure(STAYS, |config| {
        config["annotations"] = json!({ "long": long });
        config["hooks"] = json!({ "createRuntime": [bad, after] });
    });
    let (before, mounts) = (processes(), runtime.trial.host_mounts());
    let begun = Instant::now();
    let run = runtime.create(id)?;
    let took = begun.elapsed();
    if run.status == 0 {
        return Err(run.fail(
            format!("{what}: create fails"),
            "status 0",
            "a hook that fails is a container that cannot be as it should be",
        ));
    }
    if notes.join("later").exists() {
        return Err(run.fail(
            format!("{what}: the hooks after it are not run"),
            "one was",
            "the first that fails is the end of create",
        ));
    }
    if bad_time(what, took) {
        return Err(run.fail(format!("{what}: it has the one second that it may take, and little more"), format!("create ended after {:.1} s", took.as_secs_f64()), "the limit counts from the start of the hook; a pipe that nobody reads holds 64 KiB, and who writes more waits"));
    }
    let mut left = BTreeSet::new();
    let gone = runtime.trial.eventually(|| {
        left = processes().difference(&before).copied().collect();
        left.is_empty()
    });
    if !gone {
        let mut saw: Vec<String> = left.iter().map(|&pid| command_line(pid)).collect();
        saw.sort();
        return Err(run.fail(format!("{what}: no process is left"), shorten(&saw.join(" | ")), LESSON));
    }
    if runtime.trial.host_mounts() != mounts {
        return Err(run.fail(format!("{what}: no mount is left"), "there are others than before", LESSON));
    }
    let state = runtime.run(&["state", id])?;
    runtime.configure(STAYS, |_| {});
    let again = runtime.create(id)?;
    if state.status == 0 || again.status != 0 {
        let saw = if state.status == 0 { "it has a state" } else { "the name is taken" };
        return Err(run.fail(
            format!("{what}: there is no such container, and one can be created by its name"),
            saw,
            LESSON,
        ));
    }
    Ok(())
}

fn bad_time(what: &str, took: Duration) -> bool {
    what.contains("time is up") && !(Duration::from_millis(950)..Duration::from_secs(6)).contains(&took)
}

fn shorten(text: &str) -> String {
    crate::check::shorten(text)
}

fn directory(trial: &mut Trial) -> Result<(), Failure> {
    const INSIDE: &str = "a name leads somewhere only when it is looked up, and inside it is looked up by the container's own root. After chdir(2), \
                          getcwd(2) says where one is";
    const OUTSIDE: &str = "/proc/self/fd/N leads to whatever is open there, on whichever side. Either nothing of the host's is open any more when the \
                           directory is looked up, or one sees afterwards that getcwd(2) names a way from one's own root to it";
    let names: Vec<String> = (0..6).map(|_| trial.word()).collect();
    let [there, new, link, file, shared, secret] = &names[..] else { return Ok(()) };
    // Of this name there is one inside, too.
    let outside = Path::new("/var/tmp").join(shared);
    let is_made = fs::create_dir_all(&outside).and_then(|()| fs::write(outside.join(secret), "the host's"));
    let leak = trial.hand_down(&outside);
    let mut runtime = Runtime::new(trial, "10.4");
    let rootfs = runtime.bundle.join("rootfs");
    let opt = rootfs.join("opt");
    let made = is_made
        .and_then(|()| fs::create_dir_all(opt.join(there)))
        .and_then(|()| fs::write(opt.join(file), "a file"))
        .and_then(|()| fs::create_dir_all(rootfs.join("var/tmp").join(shared)))
        .and_then(|()| symlink(&outside, opt.join(link)))
        .and_then(|()| symlink(format!("/proc/self/fd/{leak}"), opt.join("way-out")));
    runtime.must("make directories", made);

    let inside = |name: &str| format!("/opt/{name}");
    let deep = format!("/opt/{new}/deeper");
    let good = [
        ("a directory that is there", inside(there), inside(there)),
        ("a directory that is not there", deep.clone(), deep),
        ("a directory that a link leads to", inside(link), outside.display().to_string()),
    ];
    for (index, (what, cwd, wanted)) in good.iter().enumerate() {
        let (id, noted) = (format!("good{index}"), format!("where{index}"));
        runtime.configure(
            &format!("{{ readlink /proc/self/cwd; ls -A; echo end; }} >/out/{noted}; {STAYS}"),
            |config| config["process"]["cwd"] = json!(cwd),
        );
        runtime.created_or(
            &id,
            "a directory that is not there is made, with those above it, and one that is there is entered",
        )?;
        let run = runtime.run(&["start", &id])?;
        run.success("the directory can be made and entered")?;
        runtime.trial.eventually(|| runtime.said(&noted).ends_with("end\n"));
        let said = runtime.said(&noted);
        if said != format!("{wanted}\nend\n") {
            let mut saw = shorten(&said);
            for (name, word) in names.iter().zip(["THERE", "NEW", "LINK", "FILE", "TARGET", "SECRET"]) {
                saw = saw.replace(name, word);
            }
            return Err(run.fail(
                format!("{what}: the command begins there, inside, where it is empty"),
                saw,
                INSIDE,
            ));
        }
    }
    let bad = [
        ("a file", inside(file), INSIDE),
        (
            "a path that does not begin with /",
            format!("opt/{there}"),
            "the standard wants a path from the root on: another would depend on where the runtime is",
        ),
        ("a directory of the host's that is open as a descriptor", format!("/proc/self/fd/{leak}"), OUTSIDE),
        ("the same, by a link in the root filesystem", inside("way-out"), OUTSIDE),
    ];
    for (index, (what, cwd, lesson)) in bad.iter().enumerate() {
        let id = format!("bad{index}");
        runtime.configure(&format!("ls -A >/out/{id}; echo ran >>/out/{id}"), |config| {
            config["process"]["cwd"] = json!(cwd)
        });
        let mut run = runtime.create(&id)?;
        if run.status == 0 {
            run = runtime.run(&["start", &id])?;
            // A program that can't tell start what went wrong.
            runtime.trial.eventually(|| run.status != 0 || !runtime.said(&id).is_empty());
        }
        let said = runtime.said(&id);
        if run.status == 0 || !said.is_empty() {
            let saw = match said.contains(secret) {
                true => "it ran there, and saw a file of the host's",
                false => "it ran, or nothing was said of it",
            };
            return Err(run.fail(
                format!("{what}: create or start fails, and the command does not run"),
                saw,
                *lesson,
            ));
        }
    }
    Ok(())
}
