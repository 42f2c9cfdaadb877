//! The narration against strace(1): the same calls, in the same order, by the same process. Nothing is
//! told that did not happen, and nothing that the book teaches happens untold.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use nix::mount::{MsFlags, mount};

use crate::support::run::{as_who, chapter, run};
use crate::support::sweep::{LESS_POWER, every, from, has_init, since};
use crate::support::{BOTH, Case, ROOT, ROOT_ITSELF, USER, Who, binary, compare_snapshot, snapshots};

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("narration_is_what_strace_sees", BOTH, narration_is_what_strace_sees).needs(&["strace"]),
        Case::new("narration_of_failures", BOTH, narration_of_failures).needs(&["strace"]),
        Case::new("narration_goes_to_stderr_without_colour", BOTH, narration_goes_to_stderr_without_colour),
        Case::new("narration_reads_well", ROOT, narration_reads_well).needs(&[ROOT_ITSELF]),
        Case::new("narration_reads_well", USER, narration_reads_well),
        Case::new("narration_of_limits_reads_well", ROOT, narration_of_limits_reads_well).needs(&[
            "cgroup-v1",
            "cgroup-memory",
            ROOT_ITSELF,
        ]),
        Case::new("narration_of_limits_reads_well", USER, narration_of_limits_reads_well)
            .needs(&["cgroup-v1"]),
    ]
}

/// From this chapter on, the narration is another where the machine has no cgroup that can be written to.
const LIMITS: u32 = 6;

/// The calls that the book teaches, as strace names them. On aarch64 the kernel has no mkdir and no mknod: libc makes
/// them of mkdirat and mknodat.
const TAUGHT: &str = "clone,clone3,unshare,setns,chroot,chdir,pivot_root,mount,umount2,sethostname,execve,mknodat,\
                      mknod,openat2,open_tree,move_mount,mount_setattr,close_range,prctl,kill,write,socket,sendto,mkdir,\
                      mkdirat,setgroups,setresgid,setresuid,keyctl,chown,prlimit64,capset,seccomp,\
                      landlock_create_ruleset,landlock_restrict_self,execveat,bpf";

/// Of the many things that prctl(2) does, those that are narrated.
const PRCTLS: [&str; 5] =
    ["PR_SET_PDEATHSIG", "PR_SET_DUMPABLE", "PR_SET_NO_NEW_PRIVS", "PR_CAP_AMBIENT", "PR_SET_KEEPCAPS"];

/// One call, in the notation that both have in common.
#[derive(Debug, PartialEq, Eq, Clone)]
struct Call {
    name: String,
    /// Its strings, in order.
    strings: Vec<String>,
    /// Its flags and other names.
    names: BTreeSet<String>,
    returned: Option<String>,
}

impl Call {
    fn parse(text: &str) -> Call {
        let (name, rest) = text.split_once('(').unwrap_or_else(|| panic!("not a call: {text:?}"));
        let name = name.replace("mknodat", "mknod").replace("mkdirat", "mkdir");
        let mut strings = Vec::new();
        let mut plain = String::new();
        let mut characters = rest.chars();
        while let Some(character) = characters.next() {
            if character != '"' {
                plain.push(character);
                continue;
            }
            let mut string = String::new();
            while let Some(character) = characters.next() {
                match character {
                    '"' => break,
                    '\\' => {
                        string.push('\\');
                        string.extend(characters.next());
                    }
                    _ => string.push(character),
                }
            }
            strings.push(string);
        }
        let (arguments, returned) = match plain.rsplit_once(" = ") {
            Some((arguments, returned)) => (arguments, Some(returned)),
            None => (plain.as_str(), None),
        };
        let words = arguments.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let is_name = |word: &&str| {
            word.len() > 2
                && word.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
                && word.starts_with(|c: char| c.is_ascii_uppercase())
        };
        let noise = ["NULL", "O_RDONLY", "MS_", "MOUNT_ATTR_RDONLY", "AT_FDCWD", "MSG_NOSIGNAL", "SOCK_RAW"];
        let mut names: BTreeSet<String> =
            words.filter(is_name).filter(|word| !noise.contains(word)).map(str::to_string).collect();
        if name == "sendto" {
            // Netlink: the kind of message is what both show.
            names.retain(|word| word.starts_with("RTM_"));
            strings.clear();
        }
        // Sets of capabilities and of rights to files are numbers for us, and names for strace.
        if ["execve", "capset", "landlock_create_ruleset"].contains(&name.as_str()) {
            names.clear();
        }
        // Of a program for the kernel we tell what it is for, and strace all of it.
        if name == "bpf" {
            names.retain(|word| !word.starts_with("BPF_F_"));
            strings.clear();
        }
        if name == "prlimit64" {
            names.retain(|word| word.starts_with("RLIMIT_"));
        }
        let returned = returned.map(|text| text.split_whitespace().take(2).collect::<Vec<_>>().join(" "));
        let returned = returned.map(|text| {
            if text.starts_with("-1") { text } else { text.split(' ').next().unwrap_or("").to_string() }
        });
        Call { name, strings, names, returned }
    }
}

/// The narrated calls of each process, in the order of the processes' first words.
fn narrated(text: &str) -> Vec<(String, Vec<Call>)> {
    let mut processes: Vec<(String, Vec<Call>)> = Vec::new();
    for line in text.lines().filter(|line| line.starts_with('[')) {
        let (label, rest) = line.split_once(']').expect("a label");
        let told = rest.trim_start();
        // Calls are followed by two spaces and the reason; a remark has no call.
        let call = told.split("  ").next().expect("split has a first part");
        let is_call = call.contains('(') && call.split('(').next().is_some_and(|name| !name.contains(' '));
        let at = processes.iter().position(|(name, _)| name == label).unwrap_or_else(|| {
            processes.push((label.to_string(), Vec::new()));
            processes.len() - 1
        });
        if is_call {
            processes[at].1.push(Call::parse(call));
        }
    }
    processes
}

/// What strace saw of each process, in the order in which they came into being.
fn traced(text: &str) -> Vec<(String, Vec<Call>)> {
    let mut processes: Vec<(String, Vec<Call>)> = Vec::new();
    let mut unfinished: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        let (pid, rest) = line.split_once(' ').expect("a pid");
        let mut rest = rest.trim().to_string();
        if rest.starts_with("+++") || rest.starts_with("---") {
            continue;
        }
        if let Some(start) = rest.strip_suffix("<unfinished ...>") {
            unfinished.push((pid.to_string(), start.trim_end().to_string()));
            continue;
        }
        if rest.starts_with("<... ") {
            let at = unfinished.iter().position(|(known, _)| known == pid).expect("it was begun");
            let (_, start) = unfinished.remove(at);
            let end = rest.split_once("resumed>").expect("it is resumed").1;
            rest = format!("{start}{end}");
        }
        let at = processes.iter().position(|(name, _)| name == pid).unwrap_or_else(|| {
            processes.push((pid.to_string(), Vec::new()));
            processes.len() - 1
        });
        // The kernel was busy and makes the call once more, unseen by the process; or has it made once more.
        if rest.contains(" = ? ERESTART") || rest.starts_with("openat2(") && rest.contains(" = -1 EAGAIN") {
            continue;
        }
        if let Some(text) = taught(&rest, pid) {
            let call = Call::parse(&text);
            processes[at].1.push(call);
        }
    }
    processes
}

/// The call, if it is one that the book teaches; with the file's path for a write.
fn taught(text: &str, own: &str) -> Option<String> {
    let name = text.split('(').next()?;
    // -y shows after a descriptor what it is: needed for write, in the way elsewhere.
    let path =
        text.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map(|(path, _)| path.to_string());
    let mut plain = String::new();
    let mut depth = 0;
    let mut quoted = false;
    for character in text.chars() {
        match character {
            '"' => quoted = !quoted,
            '<' if !quoted => depth += 1,
            '>' if !quoted && depth > 0 => {
                depth -= 1;
                continue;
            }
            _ => {}
        }
        if depth == 0 {
            plain.push(character);
        }
    }
    if name == "clone" && text.contains("child_tidptr") {
        // fork(3) of a helper program, not the container's birth.
        return None;
    }
    match name {
        "write" => {
            let path = path.filter(|path| path.starts_with("/proc/") || path.starts_with("/sys/"))?;
            // /proc/self is a link to it.
            let path = match path.strip_prefix("/proc/").and_then(|rest| rest.split_once('/')) {
                // Another process's is named by its number: the maps of a user namespace.
                Some((pid, file)) if file.ends_with("id_map") && pid != own => path,
                Some((pid, file)) if pid.bytes().all(|byte| byte.is_ascii_digit()) => {
                    format!("/proc/self/{file}")
                }
                _ => path,
            };
            Some(plain.replacen("write(", &format!("write(\"{path}\", "), 1))
        }
        "prctl" if !PRCTLS.iter().any(|what| text.contains(what)) => None,
        // Between its brackets are `<<`.
        "capset" => text.rsplit_once(')').map(|(_, returned)| format!("capset(){returned}")),
        // Questions, not steps.
        "prlimit64" if !text.contains(", NULL)") => None,
        "landlock_create_ruleset" if text.contains("(NULL, 0") => None,
        "mkdir" | "mkdirat" if !text.contains("\"/sys/fs/cgroup") => None,
        "socket" if !text.contains("AF_NETLINK") => None,
        "sendto" if !text.contains("nlmsg_type=") => None,
        // strace does not always find out which family of netlink a socket is of. See rtnetlink(7).
        "sendto" => Some(
            [(0x10, "RTM_NEWLINK"), (0x11, "RTM_DELLINK"), (0x12, "RTM_GETLINK"), (0x13, "RTM_SETLINK")]
                .into_iter()
                .chain([
                    (0x14, "RTM_NEWADDR"),
                    (0x16, "RTM_GETADDR"),
                    (0x18, "RTM_NEWROUTE"),
                    (0x1a, "RTM_GETROUTE"),
                ])
                .fold(plain, |text, (number, name)| {
                    text.replace(&format!("nlmsg_type={number:#x} "), &format!("nlmsg_type={name} "))
                }),
        ),
        _ => Some(plain),
    }
}

fn compare(number: u32, who: Who, options: &[&str]) {
    let log = format!("/tmp/strace-{number}");
    let mut command = Command::new("strace");
    command.args([
        "-f",
        "-y",
        "-qq",
        "-s",
        "4096",
        "-o",
        &log,
        "-e",
        &format!("trace={TAUGHT}"),
        "-e",
        "signal=none",
    ]);
    command.arg(binary(&format!("chapter{number:02}"), who)).args(options).args(["--explain", "--", "true"]);
    as_who(&mut command, who);
    let ended = run(&mut command);
    let told = narrated(&ended.err);
    let mut seen = traced(&fs::read_to_string(&log).expect("strace wrote it"));
    assert_eq!(ended.status, 0, "chapter {number} {options:?}: {}", ended.err);
    // The runtime's own start, by strace, is before the story.
    assert_eq!(seen[0].1.first().map(|call| call.name.as_str()), Some("execve"));
    seen[0].1.remove(0);
    let containers = if has_init(number) { 2 } else { 1 };
    assert_eq!(
        told.len(),
        1 + containers,
        "chapter {number}: {:?}",
        told.iter().map(|(name, _)| name).collect::<Vec<_>>()
    );
    assert!(seen.len() >= told.len(), "chapter {number}");
    for ((label, told), (pid, seen)) in told.iter().zip(&seen) {
        for (index, (told, seen)) in told.iter().zip(seen).enumerate() {
            let mut seen = seen.clone();
            if told.returned.is_none() {
                // execve is told before it is made: it does not come back.
                seen.returned = None;
                seen.strings.truncate(told.strings.len());
                if has_init(number) && who == Who::User && seen.strings.is_empty() {
                    // The memory that the command borrows is init's, which a user's strace may not read.
                    seen.strings.clone_from(&told.strings);
                }
            }
            assert_eq!(
                *told, seen,
                "chapter {number} {options:?}, {label}] = {pid}, call {index} (left: told, right: seen)"
            );
        }
        let names = |calls: &[Call]| calls.iter().map(|call| call.name.clone()).collect::<Vec<_>>();
        assert_eq!(
            names(told),
            names(seen),
            "chapter {number} {options:?}, {label}] = {pid} (left: told, right: seen)"
        );
    }
}

fn narration_is_what_strace_sees(who: Who) {
    let volume = "--volume=/tmp:/mnt/tmp:ro";
    // A user's way to the world is made by others, who tell nothing: not here.
    if Path::new("/dev/net").exists() {
        mount(Some("tmpfs"), "/dev/net", Some("tmpfs"), MsFlags::empty(), None::<&str>).expect("mount");
    }
    run(chapter(1, who).args(["--", "true"])); // makes the rootfs
    for number in every() {
        compare(number, who, &[]);
    }
    for number in since(3) {
        compare(number, who, &[volume]);
    }
    for number in since(5) {
        compare(number, who, &["--network", "none"]);
        compare(number, who, &["--network", "host"]);
    }
    for number in since(9) {
        compare(number, who, &["--userns", "host"]);
    }
    if who == Who::Root && crate::support::run::real_root() {
        for number in since(6) {
            compare(number, who, &["--memory", "64m", "--cpus", "0.5", "--pids-limit", "50"]);
        }
    }
}

/// What failed is told as failed.
fn narration_of_failures(who: Who) {
    run(chapter(3, who).args(["--", "true"]));
    let mut command = Command::new("strace");
    command.args([
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        "trace=pivot_root",
        "-e",
        "inject=pivot_root:error=EPERM",
    ]);
    command.arg(binary("chapter03", who)).args(["--explain", "--", "true"]);
    as_who(&mut command, who);
    let ended = run(&mut command);
    assert_eq!(ended.status, 125);
    let told: Vec<_> = ended.err.lines().filter(|line| line.contains("pivot_root(")).collect();
    assert!(told[0].contains("pivot_root(\".\", \".\") = -1 EPERM"), "{told:?}");
    assert!(!ended.err.contains("umount2("), "what was not reached is not told: {}", ended.err);
}

fn narration_goes_to_stderr_without_colour(who: Who) {
    for number in since(1) {
        let ended = run(chapter(number, who).args(["--explain", "--", "echo", "out"]));
        assert_eq!(ended.out, "out\n", "chapter {number}");
        assert!(
            ended.err.contains("execve(") && !ended.err.contains('\x1b'),
            "chapter {number}: {}",
            ended.err
        );
    }
}

fn narration_reads_well(who: Who) {
    for number in 1..LIMITS {
        narration_snapshot(number, who);
    }
}

fn narration_of_limits_reads_well(who: Who) {
    for number in from(LIMITS) {
        narration_snapshot(number, who);
    }
}

fn narration_snapshot(number: u32, who: Who) {
    let options: &[&str] = if number >= 4 { &["--hostname", "web"] } else { &[] };
    run(chapter(number, who).args(["--", "true"]));
    let ended = run(chapter(number, who).args(options).args(["--explain", "--", "true"]));
    // Two processes tell at once: each for itself, in its own order.
    let mut lines: Vec<&str> = ended.err.lines().collect();
    // The last container's cable: whether the kernel has taken it away already is a matter of moments.
    lines.retain(|line| !line.contains("the kernel answers ENODEV to RTM_DELLINK"));
    // Which of the machine's files there are to cover, each machine has its own way. One shows for all.
    let about_files = [
        "without following a link",
        "have a cover for",
        "a cover that stays as it is",
        "  hide ",
        "take /proc/",
        "put it over /proc/",
        "see which processors there are",
        "no program gets these any more",
    ];
    let is_about = |line: &&str| about_files.iter().any(|words| line.contains(words));
    lines.retain(|line| !is_about(line) || line.contains("interrupts") || line.contains("/proc/sys"));
    if number >= LESS_POWER {
        lines.retain(|line| !line.contains("let it be looked at only"));
    }
    lines.sort_by_key(|line| line.split(']').next().unwrap_or_default().to_string());
    let user = if who == Who::Root { "root" } else { "user" };
    let mut settings = snapshots(&[
        (r"\[host \d+\] *", "[host]           "),
        (r#"[^"=,]*/rootfs-\w+-[0-9a-f]+"#, "ROOTFS"),
        (r"(clone\(CLONE_NEW[^)]*\)) = \d+", "$1 = PID"),
        (r"/proc/\d+/(uid|gid)_map", "/proc/PID/${1}_map"),
        // What an ordinary user goes without: what is missing for it differs from machine to machine.
        (r"(no way to the world for an ordinary user|one user only, oneself): .*", "$1: [why]"),
        (r"keyctl\((.*)\) = \d+", "keyctl($1) = N"),
        (r"mount_setattr\(\d+, (.*)userns_fd=\d+", "mount_setattr(N, ${1}userns_fd=N"),
        (r"cooperage-\d+", "cooperage-PID"),
        (r"veth[0-9a-f]+", "vethXXXX"),
        (r"(sendto\(.*\)) = \d+", "$1 = N"),
        (r"/(proc/self/fd)/\d+", "/$1/N"),
        (r"= (\d+)(  +find|  +have a cover|  +take /proc|  +pick up|  +borrow|  +take the host)", "= N$2"),
        (r"openat2\(\d+", "openat2(N"),
        (r"open_tree\(\d+, ", "open_tree(N, "),
        // What whoever starts it has, and which rights to files this kernel knows.
        (r"rlim_max=\d+\}, NULL\) = 0 +limit nofile", "rlim_max=N}, NULL) = 0  limit nofile"),
        (r"handled_access_fs=0x[0-9a-f]+", "handled_access_fs=N"),
        (r"(target_fd|attach_bpf_fd)=\d+", "$1=N"),
        (r"(bpf\(BPF_PROG_LOAD.*) = \d+", "$1 = N"),
        (r"move_mount\(\d+, (.*), \d+,", "move_mount(N, $1, N,"),
        (r"close_range\((\d+), \d{1,3},", "close_range($1, N,"),
        (r"close_range\((\d+), 4294967295, 0", "close_range(N, 4294967295, 0"),
        (r"/sys/fs/cgroup/(\w+)/[^ ]*/cooperage-PID", "/sys/fs/cgroup/$1/[own]/cooperage-PID"),
        // An ordinary user of a user's lab: there the cgroups are read-only, elsewhere not its own.
        (r"-1 E(ACCES|ROFS) ", "-1 [refused] "),
        (r"E(ACCES: Permission denied|ROFS: Read-only file system)", "[refused]"),
    ]);
    if number == 1 {
        // No PID namespace: a number of the host.
        settings.add_filter(r"\[container \d+\] *", "[container]      ");
        settings.add_filter(r"clone\(SIGCHLD\) = \d+", "clone(SIGCHLD) = PID");
    }
    // The column of the reasons depends on the length of the numbers.
    settings.add_filter(r" = (-1 \S+|\S+) {2,}", " = $1  ");
    compare_snapshot(settings, &format!("explain/{number:02}-{user}"), lines.join("\n"));
}
