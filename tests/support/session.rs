//! The sessions that the book shows: what the reader types, and what comes back.
//!
//! A session is a list of lines. They are typed, one after the other, into a shell in a lab, and what is then on the
//! screen is compared with the snapshot that the page includes. So no output in the book is written by hand.
//!
//! What a line begins with says where it is typed:
//!
//! | line | |
//! |---|---|
//! | `ps` | into the reader's shell, in the directory of the crate; shown as `$ ps` |
//! | `cargo run --bin chapter05 -- ip addr` | the same; it runs the program that has been built |
//! | `> hostname` | into the shell that the last line has started, such as a chapter's; shown as `/ # hostname` |
//! | `@ lsns` | into a second terminal, which the page says |
//! | `# a comment` | nowhere: it is shown |
//! | `~ wait_for test -e /tmp/x` | into the reader's shell, unseen with all that it prints; it must succeed |
//!
//! `wait_for COMMAND...` repeats a command until it succeeds. A line may end in `&`, and `$!` is then the program
//! itself. A line with a line break in it is one command. At the end of a container's shell `exit` is typed, unless the
//! session does.
//!
//! What differs from run to run is shown as something that does not: processes of the host are numbered from 4201 in
//! the order in which they began, namespaces from 4026532001 in that in which they are seen; see [`steady`]. For anything
//! else a session has filters.

use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cooperage::workshop::doctor;
use cooperage::workshop::lab::Layout;
use nix::mount::{MsFlags, mount};

use super::run::as_who;
use super::{Case, Who, built, is_snapshot, repository};

/// What a page shows.
#[derive(Clone, Copy)]
pub struct Session {
    name: &'static str,
    lines: &'static [&'static str],
    who: Who,
    needs: &'static [&'static str],
    lab: Layout,
    filters: &'static [(&'static str, &'static str)],
    broken: Option<Broken>,
}

/// A chapter's program with one text of its main.rs replaced.
#[derive(Clone, Copy)]
pub struct Broken {
    chapter: u8,
    find: &'static str,
    replace: &'static str,
}

impl Session {
    /// A session. The names of chapter 5's begin with `page05-`.
    pub const fn new(name: &'static str, lines: &'static [&'static str]) -> Session {
        Session { name, lines, who: Who::Root, needs: &[], lab: Layout::Host, filters: &[], broken: None }
    }

    /// It is typed by an ordinary user, not by root.
    pub const fn user(self) -> Session {
        Session { who: Who::User, ..self }
    }

    /// It needs these features of the machine, by the doctor's names. (And busybox, as all sessions do.)
    pub const fn needs(self, needs: &'static [&'static str]) -> Session {
        Session { needs, ..self }
    }

    /// It runs in a lab with these cgroups.
    pub const fn lab(self, lab: Layout) -> Session {
        Session { lab, ..self }
    }

    /// These regular expressions are replaced in what it shows.
    pub const fn filters(self, filters: &'static [(&'static str, &'static str)]) -> Session {
        Session { filters, ..self }
    }

    /// In this session the chapter's main.rs has `replace` in place of `find`, which stands in it once. What that
    /// changes is a snapshot too, NAME-change.snap: the page shows it as a `diff`.
    pub const fn broken(self, chapter: u8, find: &'static str, replace: &'static str) -> Session {
        Session { broken: Some(Broken { chapter, find, replace }), ..self }
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The snapshot that its output is: that of `page05-first` is tests/snapshots/pages/05-first.snap.
    pub fn snapshot(&self) -> String {
        format!("pages/{}", self.name.trim_start_matches("page"))
    }

    /// As a case; `play` finds it again by its name.
    pub fn case(&self, play: fn(Who)) -> Case {
        let mut needs = vec!["busybox"];
        // A user is one who has been given nothing: root's tests have such a one.
        needs.push(if self.who == Who::Root { super::ROOT_ITSELF } else { super::ANOTHER_USER });
        needs.extend(self.needs);
        needs.extend(self.programs());
        let who: &'static [Who] = if self.who == Who::Root { super::ROOT } else { super::USER };
        Case { name: self.name, who, needs: needs.leak(), lab: self.lab, test: play }
    }

    /// The programs of the machine that it types, as features for the doctor to look for. (A container has busybox's.)
    fn programs(&self) -> Vec<&'static str> {
        let typed = self.lines.iter().filter(|line| !line.starts_with("> ") && !line.starts_with("# "));
        let outside = typed.map(|line| line.split("cargo run").next().unwrap_or_default());
        let words: Vec<&str> =
            outside.flat_map(|line| line.split(|c: char| !c.is_ascii_alphanumeric())).collect();
        let typed = doctor::COMMANDS.iter().filter(|(name, _)| words.contains(name));
        typed.map(|(name, _)| &*format!("program-{name}").leak()).collect()
    }

    /// The broken program to be built: its name, and its text.
    pub fn broken_program(&self) -> Option<(String, String)> {
        let broken = self.broken?;
        let (_, text) = main_rs(broken.chapter);
        let count = text.matches(broken.find).count();
        let (name, chapter) = (self.name, broken.chapter);
        assert!(count == 1, "{name}: {:?} stands {count} times in chapter {chapter}'s main.rs", broken.find);
        let changed = text.replacen(broken.find, broken.replace, 1);
        Some((broken_name(self.name), format!("#![allow(warnings)]\n{changed}")))
    }

    /// What is changed in its main.rs, as a unified diff.
    pub fn change(&self) -> Option<String> {
        let broken = self.broken?;
        let (path, text) = main_rs(broken.chapter);
        let changed = text.replacen(broken.find, broken.replace, 1);
        let diff = similar::TextDiff::from_lines(&text, &changed);
        Some(diff.unified_diff().context_radius(2).header(&path, &path).to_string())
    }

    /// Types the lines, and compares what is on the screen with the snapshot.
    pub fn play(&self) {
        prepare(self);
        let mut screen = Screen::new();
        let mut first = Terminal::open(self.who, &screen, 'o');
        let mut second = None;
        let mut in_second = false;
        let mut inner = false;
        for (index, line) in self.lines.iter().enumerate() {
            let (mark, text) = match line.get(..2) {
                Some(mark @ ("> " | "@ " | "# " | "~ ")) => (mark, &line[2..]),
                _ => ("", *line),
            };
            if mark == "# " {
                screen.show(&format!("{line}\n"));
                continue;
            }
            if inner && !matches!(mark, "> " | "@ ") {
                first.leave(&mut screen, "exit");
                inner = false;
            }
            if (mark == "@ ") != in_second {
                in_second = mark == "@ ";
                let where_to = if in_second { "in a second terminal" } else { "back in the first terminal" };
                screen.show(&format!("\n# {where_to}\n"));
            }
            match mark {
                "> " if text == "exit" || text.starts_with("exit ") => {
                    assert!(inner, "{}: {line:?} is typed in no container", self.name);
                    first.leave(&mut screen, text);
                    inner = false;
                }
                "> " => {
                    assert!(inner, "{}: {line:?} is typed in no container", self.name);
                    first.type_inside(&mut screen, text);
                }
                "@ " => {
                    let second = second.get_or_insert_with(|| Terminal::open(self.who, &screen, 't'));
                    screen.show(&prompt(text));
                    second.type_line(&mut screen, text);
                    screen.wait_for('t');
                }
                "~ " => {
                    first.type_line(&mut screen, &format!("{{ {text}\n}} >/tmp/unseen 2>&1"));
                    let status = screen.wait_for('o');
                    let said = fs::read_to_string("/tmp/unseen").unwrap_or_default();
                    assert_eq!(status, "0", "{}: {line:?} failed: {said}", self.name);
                }
                _ => {
                    screen.show(&prompt(text));
                    first.type_line(&mut screen, text);
                    let after = self.lines[index + 1..].iter();
                    let next = after.copied().find(|line| !line.starts_with("@ ") && !line.starts_with("# "));
                    inner = next.is_some_and(|line| line.starts_with("> "));
                    if inner {
                        first.meet(&mut screen);
                    } else {
                        screen.wait_for('o');
                    }
                }
            }
        }
        if inner {
            first.leave(&mut screen, "exit");
        }
        let shown = screen.text();
        let shown = steady(&shown);
        is_snapshot(&self.snapshot(), self.filters, shown);
    }
}

/// The name of a chapter's main.rs, and its text.
fn main_rs(chapter: u8) -> (String, String) {
    let root = repository();
    let directory = cooperage::workshop::chapters::directory(root, chapter).expect("the chapter exists");
    let path = directory.join("main.rs");
    let text = fs::read_to_string(&path).expect("readable");
    (path.strip_prefix(root).expect("below it").display().to_string(), text)
}

fn broken_name(session: &str) -> String {
    format!("broken-{session}")
}

fn prompt(command: &str) -> String {
    format!("$ {}\n", command.replace('\n', "\n> "))
}

/// The reader's home directory. As long a name as the one that is shown: /home may not be there.
const HOME: &str = "/tmp/you1";
const SHOWN_HOME: &str = "/home/you";
/// The first number of a process that a session starts on the host.
const FIRST_PID: u32 = 4200;

/// Makes the lab look like the machine of a reader who has just cloned the crate.
fn prepare(session: &Session) {
    let crate_directory = repository();
    let built = built();
    let here = Path::new(HOME).join("cooperage");
    let bind = |from: &Path, to: &Path| {
        mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .unwrap_or_else(|errno| panic!("bind {} to {}: {errno}", from.display(), to.display()));
    };
    fs::create_dir_all(crate_directory.join("target")).expect("the crate's directory is writable");
    fs::create_dir_all(&here).expect("/tmp is writable");
    bind(crate_directory, &here);
    // A target directory for this session alone: some chapters write to the root filesystem that is kept there.
    let target = here.join("target");
    mount(Some("tmpfs"), &target, Some("tmpfs"), MsFlags::empty(), Some("mode=755")).expect("a tmpfs");
    fs::write(target.join("CACHEDIR.TAG"), "").expect("writable");
    fs::create_dir(target.join("debug")).expect("it is new");
    bind(&built, &target.join("debug"));
    if let Some(broken) = session.broken {
        // The chapter's program is now another one, for this lab.
        let name = format!("debug/chapter{:02}", broken.chapter);
        // It is built without --release, whatever the tests are.
        let beside = built.parent().expect("a directory below target/").join("debug");
        bind(&beside.join(broken_name(session.name)), &target.join(name));
    }

    let bin = Path::new(HOME).join(".cargo/bin");
    fs::create_dir_all(&bin).expect("writable");
    let cargo = bin.join("cargo");
    fs::write(&cargo, CARGO).expect("writable");
    fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755)).expect("it is ours");
    fs::write("/tmp/.functions", FUNCTIONS).expect("writable");
    if session.who == Who::User {
        for directory in [PathBuf::from(HOME), Path::new(HOME).join(".cargo")] {
            std::os::unix::fs::chown(directory, Some(super::run::NOBODY), Some(super::run::NOBODY))
                .unwrap_or_default();
        }
    }
    // Assembled unseen: the first run would tell of it.
    let mut warm = Command::new(here.join("target/debug/chapter01"));
    surroundings(&mut warm, session.who);
    let done = warm.args(["--", "true"]).stdin(Stdio::null()).output().expect("it starts");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    // So that no process of the host has a number that could be anything else.
    fs::write("/proc/sys/kernel/ns_last_pid", FIRST_PID.to_string()).expect("this is root of the lab");
}

/// What `cargo run` is in a session: it becomes the program that is built already, as cargo does.
const CARGO: &str = r#"#!/bin/sh
[ "$1" = run ] || { echo "a session knows only cargo run" >&2; exit 101; }
shift
program=doctor
while [ $# -gt 0 ]; do
    case $1 in
        --bin) program=$2; shift 2 ;;
        -q | --quiet) shift ;;
        --) shift; break ;;
        *) break ;;
    esac
done
exec "$HOME/cooperage/target/debug/$program" "$@"
"#;

const FUNCTIONS: &str = r#"
wait_for() {
    tries=0
    until "$@" >/dev/null 2>&1; do
        sleep 0.02
        tries=$((tries + 1))
        [ $tries -lt 2000 ] || { echo "never came: $*"; return 1; }
    done
}
"#;

/// The environment of the reader's shell.
fn surroundings(command: &mut Command, who: Who) {
    let path = std::env::var("PATH").unwrap_or_default();
    let usual = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    command
        .env_clear()
        .env("PATH", format!("{HOME}/.cargo/bin:{usual}:{path}"))
        .env("HOME", HOME)
        .env("USER", if who == Who::Root { "root" } else { "you" })
        .env("SHELL", "/bin/sh")
        .env("TERM", "xterm")
        .env("LC_ALL", "C.UTF-8")
        .env("NO_COLOR", "1")
        .env("COLUMNS", "100")
        .env("COOPERAGE_ROOTFS_FROM", "busybox")
        .env("COOPERAGE_LAB", "1");
    as_who(command, who);
    command.current_dir(Path::new(HOME).join("cooperage"));
}

/// Begins what a shell prints when a line is done. Nothing else prints this character.
const MARK: char = '\u{1}';

/// What the terminals show: one file, to which everything is appended in the order in which it happens.
struct Screen {
    file: fs::File,
    read: usize,
}

impl Screen {
    fn new() -> Screen {
        let mut options = fs::OpenOptions::new();
        let file =
            options.read(true).append(true).create(true).open("/tmp/.screen").expect("/tmp is writable");
        Screen { file, read: 0 }
    }

    fn show(&mut self, text: &str) {
        self.file.write_all(text.as_bytes()).expect("writable");
    }

    fn all(&mut self) -> String {
        let mut bytes = Vec::new();
        self.file.seek(SeekFrom::Start(0)).and_then(|_| self.file.read_to_end(&mut bytes)).expect("readable");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits for the next mark, which must be `kind`, and returns the status that comes with it.
    fn wait_for(&mut self, kind: char) -> String {
        let start = Instant::now();
        loop {
            let all = self.all();
            let marks: Vec<&str> = all.split(MARK).skip(1).collect();
            if let Some(mark) = marks.get(self.read)
                && let Some((mark, _)) = mark.split_once('\n')
            {
                self.read += 1;
                assert!(
                    mark.starts_with(kind),
                    "the container's shell ended early:\n{}",
                    without_marks(&all)
                );
                return mark[1..].to_string();
            }
            // No judgement on speed: whoever writes a session sees where it hangs.
            assert!(start.elapsed() < Duration::from_secs(120), "it hangs:\n{}", without_marks(&all));
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn text(&mut self) -> String {
        without_marks(&self.all())
    }
}

fn without_marks(text: &str) -> String {
    let mut parts = text.split(MARK);
    let mut plain = parts.next().unwrap_or_default().to_string();
    for part in parts {
        plain.push_str(part.split_once('\n').map_or("", |(_, rest)| rest));
    }
    plain
}

/// A shell that reads what is typed from a pipe.
struct Terminal {
    shell: Child,
    kind: char,
}

impl Terminal {
    fn open(who: Who, screen: &Screen, kind: char) -> Terminal {
        let copy = || Stdio::from(screen.file.try_clone().expect("a descriptor is left"));
        let mut command = Command::new("/bin/sh");
        surroundings(&mut command, who);
        let shell = command.stdin(Stdio::piped()).stdout(copy()).stderr(copy()).spawn().expect("a shell");
        let mut terminal = Terminal { shell, kind };
        terminal.send(". /tmp/.functions");
        terminal
    }

    fn send(&mut self, text: &str) {
        let pipe = self.shell.stdin.as_mut().expect("piped");
        pipe.write_all(format!("{text}\n").as_bytes()).expect("the shell reads");
    }

    /// All in one line, and it is waited for that the shell has read it: the rest of its input may be for what it
    /// starts.
    fn type_line(&mut self, screen: &mut Screen, text: &str) {
        let kind = self.kind;
        self.send(&format!("printf '\\001{kind}\\n'; (exit ${{s:-0}}); eval {}; s=$?; printf '\\001{kind}%s\\n' $s; (exit $s)", quoted(text)));
        screen.wait_for(kind);
    }

    /// Waits for the shell that the last line has started.
    fn meet(&mut self, screen: &mut Screen) {
        self.send("printf '\\001i\\n'");
        screen.wait_for('i');
    }

    /// Types into the shell that the last line has started.
    fn type_inside(&mut self, screen: &mut Screen, text: &str) {
        let shown = quoted(&text.replace('\n', "\n> "));
        self.send(&format!(
            "printf '%s # %s\\n' \"$PWD\" {shown}; (exit ${{s:-0}}); eval {}; s=$?; printf '\\001i\\n'",
            quoted(text)
        ));
        screen.wait_for('i');
    }

    /// Leaves that shell.
    fn leave(&mut self, screen: &mut Screen, exit: &str) {
        self.send(&format!("printf '%s # %s\\n' \"$PWD\" {}; (exit ${{s:-0}}); {exit}", quoted(exit)));
        screen.wait_for('o');
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// Puts something steady in the place of what differs from run to run.
fn steady(text: &str) -> String {
    let mut text = text.replace(HOME, SHOWN_HOME);
    // Each line is typed by eval(1p), which readers do not use.
    for (found, shown) in [("eval: line 0: ", ""), ("/bin/sh: 1: eval: ", "sh: 1: ")] {
        text = text.replace(found, shown);
    }
    let text: Vec<&str> = text.lines().map(str::trim_end).collect();
    let mut text = text.join("\n");
    for kind in &KINDS {
        text = numbered(&text, kind);
    }
    text
}

/// Words that differ from run to run.
struct Kind {
    /// What such a word is made of.
    part: fn(char) -> bool,
    /// Is it one of them?
    is_it: fn(&str) -> bool,
    /// What the n-th one becomes.
    name: fn(usize) -> String,
    /// The smallest is the first: else the one that is seen first.
    sorted: bool,
}

const KINDS: [Kind; 6] = [
    // Processes of the host. Whoever was started first has the lower number: parents come before their children.
    Kind {
        part: |c| c.is_ascii_alphanumeric(),
        is_it: |word| {
            word.len() == 4 && word.parse().is_ok_and(|n: u32| (FIRST_PID + 1..FIRST_PID + 700).contains(&n))
        },
        name: |n| (FIRST_PID as usize + 1 + n).to_string(),
        sorted: true,
    },
    // Namespaces.
    Kind {
        part: |c| c.is_ascii_alphanumeric(),
        is_it: |word| word.len() == 10 && word.starts_with("402653") && word.parse::<u32>().is_ok(),
        name: |n| (4_026_532_001_usize + n).to_string(),
        sorted: false,
    },
    // Cables.
    Kind {
        part: |c| c.is_ascii_alphanumeric(),
        is_it: |word| word.len() == 12 && word.starts_with("veth") && is_hex(&word[4..]),
        name: |n| format!("veth{:08x}", 0x1f2e_3d4c_usize + 0x0101_0101 * n),
        sorted: false,
    },
    // The names of containers that were given none.
    Kind {
        part: |c| c.is_ascii_alphanumeric(),
        is_it: |word| word.len() == 12 && is_hex(word),
        name: |n| format!("{:012x}", 0x4f1c_83a2_d5e7_usize + 0x0101_0101 * n),
        sorted: false,
    },
    // Root filesystems. (Sets of capabilities have as many digits, of which the first ones are zeros.)
    Kind {
        part: |c| c.is_ascii_alphanumeric(),
        is_it: |word| word.len() == 16 && is_hex(word) && !word.starts_with("0000"),
        name: |n| format!("{:016x}", 0x0c0f_fee0_5eed_cafe_usize + n),
        sorted: false,
    },
    // Network devices.
    Kind {
        part: |c| c.is_ascii_hexdigit() || c == ':',
        is_it: |word| {
            let parts: Vec<&str> = word.split(':').collect();
            let all = |what: &str| parts.iter().all(|part| *part == what);
            parts.len() == 6 && parts.iter().all(|part| part.len() == 2) && !all("00") && !all("ff")
        },
        name: |n| format!("02:42:0a:53:00:{:02x}", n + 2),
        sorted: false,
    },
];

fn is_hex(word: &str) -> bool {
    word.bytes().all(|byte| byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase())
}

/// Replaces every word of a kind by a name that is the same in every run.
fn numbered(text: &str, kind: &Kind) -> String {
    let mut seen: Vec<String> = Vec::new();
    if kind.sorted {
        let words = text.split(|c| !(kind.part)(c)).filter(|word| (kind.is_it)(word));
        seen.extend(words.map(str::to_string));
        seen.sort_unstable();
        seen.dedup();
    }
    let mut plain = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = rest.find(|c| !(kind.part)(c)).unwrap_or(rest.len());
        if length == 0 {
            plain.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let word = &rest[..length];
        if (kind.is_it)(word) {
            let at = seen.iter().position(|known| known == word).unwrap_or_else(|| {
                seen.push(word.to_string());
                seen.len() - 1
            });
            plain.push_str(&(kind.name)(at));
        } else {
            plain.push_str(word);
        }
        rest = &rest[length..];
    }
    plain
}
