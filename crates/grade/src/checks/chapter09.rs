//! The checks of chapter 9: what a command may still do.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use cooperage::container::capability::Capability;
use cooperage::container::power::capabilities::Set;
use cooperage::container::seccomp::names;
use cooperage::container::seccomp::profile::Action;
use cooperage::container::seccomp::program::{AUDIT_ARCH, Instruction, X32};

use crate::check::{Check, Failure, Run, Trial};
use crate::classic;

/// In the order of the tasks.
pub const CHECKS: &[Check] = &[
    Check {
        task: "9.1",
        explain: "Runs a command with --keep and random sets of capabilities, one with CAP_SETPCAP in it, one without, and none. The five \
                  lines of its /proc/self/status must be exactly that set as effective, permitted and bounding set, and \
                  nothing as inheritable and ambient set.",
        needs: &[],
        run: capabilities,
    },
    Check {
        task: "9.2",
        explain: "Reads the program that --print-filter prints, and asks it about every call up to 600 and random ones above, about x32 \
                  calls, calls of i386 and of another architecture, and about ioctl with TIOCSTI, with bits set that the kernel does \
                  not look at, and with other requests. Then loads it with --filter, and makes such calls inside: those that are \
                  allowed must be answered there as they are without a filter.",
        needs: &[],
        run: filter,
    },
    Check {
        task: "9.3",
        explain: "Masks a file, a directory, a name that is not there and a file of /proc, with random names, and looks inside at them, \
                  at what is beside them, and whether the covers can be written; a file's cover must be the device 1:3. Then makes \
                  the name, or a directory on the way to it, a link to a file of the host or of the container: status 125, and \
                  on the host nothing may be covered. Then makes the root filesystem's /dev a link that leads out to a file called null.",
        needs: &[],
        run: masked,
    },
    Check {
        task: "9.4",
        explain: "Runs a command with --user and a random number. Uid:, Gid: and Groups: in its /proc/self/status must be that number, four \
                  times each, and no group. It must not be able to become user or group 0 by setuid(2) or setgid(2), and a \
                  set-user-ID copy of a program of root's must run as that user, too.",
        needs: &["many-users"],
        run: user,
    },
];

/// No link to the world.
const ALONE: [&str; 2] = ["--network", "none"];

/// Those that a grader's own lab leaves to root.
const SOME: [Capability; 12] = [
    Capability::CHOWN,
    Capability::DAC_OVERRIDE,
    Capability::FOWNER,
    Capability::FSETID,
    Capability::KILL,
    Capability::SETGID,
    Capability::SETUID,
    Capability::NET_BIND_SERVICE,
    Capability::NET_RAW,
    Capability::SYS_CHROOT,
    Capability::NET_ADMIN,
    Capability::SETFCAP,
];

fn capabilities(trial: &mut Trial) -> Result<(), Failure> {
    const LESSON: &str = "leaving the bounding set takes CAP_SETPCAP, so it comes before that one is dropped; and what is inheritable or \
                          ambient passes through execve(2)";
    let mut some = |with: Option<Capability>| {
        let chosen = trial.number(1, (1 << SOME.len()) - 1);
        let members =
            SOME.iter().enumerate().filter(|(index, _)| chosen >> index & 1 == 1).map(|(_, one)| *one);
        Set::of(members.chain(with))
    };
    let sets = [some(None), some(Some(Capability::SETPCAP)), Set::default()];
    for set in sets {
        let names: Vec<String> = set.members().map(|capability| capability.to_string()).collect();
        let keep = if names.is_empty() { "none".to_string() } else { names.join(",") };
        let mut args = ALONE.to_vec();
        args.extend(["--keep", &keep]);
        let run = trial.sh(&args, "grep ^Cap /proc/self/status")?;
        let word = |name: &str| {
            let line = run.out.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| u64::from_str_radix(line.trim(), 16).ok())
        };
        let expected =
            [("CapInh:", 0), ("CapPrm:", set.0), ("CapEff:", set.0), ("CapBnd:", set.0), ("CapAmb:", 0)];
        for (name, bits) in expected {
            let found = word(name);
            if found != Some(bits) {
                let saw = match found {
                    None => shown(&run, &keep),
                    Some(found) if found & !bits != 0 => "it has others, too".to_string(),
                    Some(_) => "some of them are missing".to_string(),
                };
                let what = if bits == 0 { "nothing" } else { "the set that was to be kept" };
                let run = Run { command: run.command.replace(&keep, "NAMES"), ..run };
                return Err(run.fail(format!("{name} {what}"), saw, LESSON));
            }
        }
    }
    Ok(())
}

/// What a run said, without the random set.
fn shown(run: &Run, keep: &str) -> String {
    run.said().replace(keep, "NAMES")
}

/// What the kernel says about a call.
struct Question {
    what: &'static str,
    architecture: u32,
    number: u32,
    argument: u64,
    expected: Action,
}

fn filter(trial: &mut Trial) -> Result<(), Failure> {
    const LESSON: &str = "the program is told 32 bits at a time: the number at 0, the architecture at 4, and argument N at 16 + 8 * N, the lower \
                          half first";
    let mut args = ALONE.to_vec();
    args.push("--print-filter");
    let run = trial.run(&args)?;
    let line = |line: &str| {
        let numbers: Vec<u32> = line.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
        let [code, if_true, if_false, operand] = numbers[..] else { return None };
        Some(Instruction {
            code: code.try_into().ok()?,
            if_true: if_true.try_into().ok()?,
            if_false: if_false.try_into().ok()?,
            operand,
        })
    };
    let program: Option<Vec<Instruction>> = run.out.lines().map(line).collect();
    let Some(program) = program.filter(|program| !program.is_empty() && run.status == 0) else {
        let said = run.said();
        return Err(run.fail("--print-filter prints lines of four numbers: code, jt, jf, k", said, LESSON));
    };
    for question in questions(trial) {
        let Question { architecture, number, argument, expected, what } = question;
        let call = classic::call(architecture, number, [1, argument, 0, 0, 0, 0]);
        let said = classic::run(&program, &call);
        if said.map(plain) != Some(expected) {
            let saw = said.map_or("no answer: no filter may do what it does".to_string(), |said| {
                plain(said).to_string()
            });
            return Err(run.fail(format!("{what}: {expected}"), saw, LESSON));
        }
    }
    loaded(trial)
}

/// An answer. What is said besides to allow a call is not looked at.
fn plain(answer: u32) -> Action {
    if answer & 0xffff_0000 == Action::ALLOW.0 { Action::ALLOW } else { Action(answer) }
}

/// What the kernel answers inside is what the filter that was loaded says, whatever was printed.
fn loaded(trial: &mut Trial) -> Result<(), Failure> {
    const LESSON: &str = "the filter that counts is the one that the kernel has: it is loaded as it was assembled, before execve(2)";
    let call = |name: &str, arguments: &[u64]| {
        let number = names::number(name)?;
        let words: Vec<String> = std::iter::once(u64::from(number))
            .chain(arguments.to_vec())
            .map(|word| word.to_string())
            .collect();
        Some(words.join(","))
    };
    let refused = [
        ("mkdir(2)", call("mkdir", &[0]), "EPERM"),
        ("mkdirat(2)", call("mkdirat", &[0, 0]), "EPERM"),
        ("ioctl(2) with TIOCSTI", call("ioctl", &[0, TIOCSTI]), "EPERM"),
        ("ioctl(2) with TIOCSTI, and bits set above", call("ioctl", &[0, 1 << 40 | TIOCSTI]), "EPERM"),
        ("clone3(2)", call("clone3", &[0, 0]), "ENOSYS"),
        ("an x32 call", Some((X32 + 39).to_string()), "ENOSYS"),
    ];
    let allowed = [
        ("unlinkat(2)", call("unlinkat", &[0, 0])),
        ("ioctl(2) with another request", call("ioctl", &[0, TIOCSTI + 1])),
        ("ioctl(2) with another request", call("ioctl", &[0, TIOCSTI << 32])),
        ("getppid(2)", call("getppid", &[])),
    ];
    let words: Vec<&str> = allowed.iter().filter_map(|(_, call)| call.as_deref()).collect();
    let script = format!("witness calls {}", words.join(" "));
    let without = trial.sh(&ALONE, &script)?;
    let usual: Vec<&str> = without.out.lines().collect();
    if usual.len() != words.len() {
        let said = without.said();
        return Err(without.fail("the container has the witness, which makes calls", said, LESSON));
    }
    let mut expected: Vec<(&str, &String, &str)> = Vec::new();
    for (what, call, answer) in &refused {
        expected.extend(call.as_ref().map(|call| (*what, call, *answer)));
    }
    for ((what, call), answer) in allowed.iter().zip(usual) {
        expected.extend(call.as_ref().map(|call| (*what, call, answer)));
    }
    let words: Vec<&str> = expected.iter().map(|(_, call, _)| call.as_str()).collect();
    let script = format!("grep ^Seccomp: /proc/self/status; witness calls {} i386:20", words.join(" "));
    let mut args = ALONE.to_vec();
    args.push("--filter");
    let run = trial.sh(&args, &script)?;
    let mut lines = run.out.lines();
    let mode = lines.next().and_then(|line| line.strip_prefix("Seccomp:")).map(str::trim);
    if mode != Some("2") {
        let said = run.said();
        return Err(run.fail("the kernel takes the program", said, LESSON));
    }
    for (what, _, answer) in expected {
        let saw = lines.next();
        if saw != Some(answer) {
            let saw = saw.map_or_else(|| run.said(), str::to_string);
            return Err(run.fail(format!("{what} inside: {answer}"), saw, LESSON));
        }
    }
    // A kernel without such calls ends the process that makes one.
    match lines.next() {
        None | Some("ENOSYS") => Ok(()),
        Some(other) => Err(run.fail("a call of i386 inside: ENOSYS", other, LESSON)),
    }
}

const TIOCSTI: u64 = 0x5412;

fn questions(trial: &mut Trial) -> Vec<Question> {
    const I386: u32 = 0x4000_0003;
    const ARM: u32 = 0x4000_0028;
    let (refused, none) = (Action::errno(1), Action::errno(38));
    let number = |name: &str| names::number(name).unwrap_or(u32::MAX);
    let ask = |what, architecture, number, argument, expected| Question {
        what,
        architecture,
        number,
        argument,
        expected,
    };
    let here = |what, name: &str, argument, expected| ask(what, AUDIT_ARCH, number(name), argument, expected);
    let mut questions = vec![
        here("mkdirat(2)", "mkdirat", 0, refused),
        here("clone3(2)", "clone3", 0, none),
        here("ioctl(2) with TIOCSTI", "ioctl", TIOCSTI, refused),
        here(
            "ioctl(2) with TIOCSTI, and bits set above the 32 that the kernel looks at",
            "ioctl",
            1 << 40 | TIOCSTI,
            refused,
        ),
        here("ioctl(2) with another request", "ioctl", TIOCSTI + 1, Action::ALLOW),
        here("ioctl(2) with another request", "ioctl", TIOCSTI << 32, Action::ALLOW),
        ask("a call of i386, whose numbers are others", I386, number("clone3"), 0, none),
        ask("a call of i386, whose numbers are others", I386, 1, 0, none),
        ask("a call of another architecture", ARM, 1, 0, none),
        ask("an x32 call", AUDIT_ARCH, X32 + 1, 0, none),
        ask("an x32 call", AUDIT_ARCH, X32 + number("mkdirat"), 0, none),
        ask("an x32 call", AUDIT_ARCH, u32::MAX, 0, none),
    ];
    if names::number("mkdir").is_some() {
        questions.push(here("mkdir(2)", "mkdir", 0, refused));
    }
    let special = ["mkdir", "mkdirat", "clone3", "ioctl"].map(number);
    let others = (0..=600).filter(|number| !special.contains(number));
    let newer = (0..16).map(|_| trial.number(601, u64::from(X32) - 2) as u32).chain([X32 - 1]);
    questions.extend(
        others.chain(newer).map(|number| ask("any other call", AUDIT_ARCH, number, TIOCSTI, Action::ALLOW)),
    );
    questions
}

fn masked(trial: &mut Trial) -> Result<(), Failure> {
    const LESSON: &str = "what is found by a path that the root filesystem has a say in is found once, without following a link, and then used by \
                          its descriptor";
    let rootfs = trial.copy_of_rootfs();
    let (file, directory, beside, none) = (trial.word(), trial.word(), trial.word(), trial.word());
    let secret = trial.word();
    let opt = rootfs.join("opt");
    let made = fs::create_dir_all(opt.join(&directory))
        .and_then(|()| fs::write(opt.join(&file), &secret))
        .and_then(|()| fs::write(opt.join(&beside), "beside"))
        .and_then(|()| fs::write(opt.join(&directory).join("inside"), &secret));
    if made.is_err() {
        return Err(Failure::new(
            "",
            "a root filesystem",
            "it could not be made",
            "this is the grader's fault",
        ));
    }
    let root = rootfs.display().to_string();
    let hidden = [&file, &directory, &none].map(|name| format!("/opt/{name}"));
    let mut args = ALONE.to_vec();
    args.extend(["--rootfs", &root, "--mask", "/proc/uptime"]);
    for name in &hidden {
        args.extend(["--mask", name]);
    }
    let script = format!(
        "stat -c %t:%T /opt/{file} /proc/uptime; cat /opt/{file} /proc/uptime; ls -A /opt/{directory}; cat /opt/{beside}; echo; ls /opt | wc -l; \
         (echo x >/opt/{directory}/x) 2>/dev/null && echo wrote; chmod 700 /opt/{directory} 2>/dev/null && echo changed"
    );
    let run = trial.sh(&args, &script)?;
    let clean = |run: &Run| {
        let names = [
            (&file, "FILE"),
            (&directory, "DIRECTORY"),
            (&beside, "BESIDE"),
            (&none, "NONE"),
            (&secret, "SECRET"),
        ];
        names.iter().fold(run.said(), |said, (name, shown)| said.replace(name.as_str(), shown))
    };
    let covers = "1:3\n1:3\n";
    if run.status != 125 && !run.out.starts_with(covers) {
        let said = clean(&run);
        return Err(run.fail(
            "the file, and one of /proc, are the device 1:3",
            said,
            "what covers a file is the null device, and seen to be: an empty file can be written, and be somebody's",
        ));
    }
    if run.out.strip_prefix(covers) != Some("beside\n3\n") || run.status == 125 {
        let said = clean(&run);
        return Err(run.fail(
            "the file has nothing in it, the directory is empty and cannot be changed, and what is beside them is as it was",
            said,
            LESSON,
        ));
    }
    let outside = trial.directory();
    let target = outside.join("of-the-host");
    let _ = fs::write(&target, &secret);
    let name = trial.word();
    let link = |to: &Path| {
        let place = opt.join(&name);
        let _ = fs::remove_file(&place);
        symlink(to, &place).is_ok()
    };
    let beneath = format!("/opt/{name}");
    let through = format!("/opt/{name}/of-the-host");
    let inside = format!("/opt/{file}");
    let hostile = [
        ("the name is a link to a file of the host", target.as_path(), &beneath),
        ("a directory on the way to it is a link to one of the host", outside.as_path(), &through),
        ("the name is a link to another file of the container", Path::new(&inside), &beneath),
        ("the name is a link that leads up", Path::new("../../../../../../../../etc/passwd"), &beneath),
    ];
    for (what, to, mask) in hostile {
        if !link(to) {
            return Err(Failure::new("", what, "it could not be made", "this is the grader's fault"));
        }
        let mut args = ALONE.to_vec();
        args.extend(["--rootfs", &root, "--mask", mask]);
        let run = trial.sh(&args, "echo it ran")?;
        if run.status != 125 || run.out.contains("it ran") {
            let said = clean(&run);
            return Err(run.fail(format!("{what}: status 125, and the command does not run"), said, LESSON));
        }
        if fs::read_to_string(&target).ok().as_deref() != Some(secret.as_str()) {
            return Err(run.fail(format!("{what}: the host's file is as it was"), "it is covered", LESSON));
        }
    }
    device_is_a_link(trial, &rootfs, &file)
}

/// The same name leads inside to an empty directory, and on the host to one with a file that is called null.
fn device_is_a_link(trial: &mut Trial, rootfs: &Path, file: &str) -> Result<(), Failure> {
    let (name, secret) = (trial.word(), trial.word());
    let target = Path::new("/var/tmp").join(&name);
    let inside = rootfs.join("var/tmp").join(&name);
    let dev = rootfs.join("dev");
    let made = fs::create_dir_all(&target)
        .and_then(|()| fs::write(target.join("null"), &secret))
        .and_then(|()| fs::create_dir_all(inside))
        .and_then(|()| fs::rename(&dev, rootfs.join("old-dev")).or_else(|_| fs::remove_file(&dev)))
        .and_then(|()| symlink(&target, &dev));
    if made.is_err() {
        return Err(Failure::new(
            "",
            "a /dev that is a link",
            "it could not be made",
            "this is the grader's fault",
        ));
    }
    let (root, hidden) = (rootfs.display().to_string(), format!("/opt/{file}"));
    let mut args = ALONE.to_vec();
    args.extend(["--rootfs", &root, "--mask", &hidden]);
    let run = trial.sh(&args, &format!("stat -c %t:%T /opt/{file}; cat /opt/{file}"))?;
    let refused = run.status == 125 && run.out.is_empty();
    if run.out != "1:3\n" && !refused {
        let said = run.said().replace(&secret, "SECRET").replace(file, "FILE");
        return Err(run.fail(
            "/dev is a link: the cover is the device 1:3 all the same, or the container does not start",
            said,
            "a link in the root filesystem leads to another place on the host than inside: the cover is looked up as the \
             container would look it up, and seen to be the null device",
        ));
    }
    Ok(())
}

fn user(trial: &mut Trial) -> Result<(), Failure> {
    const LESSON: &str = "there are four numbers for the user and four for the group: real, effective, saved and that for files; and execve(2) of \
                          a set-user-ID file changes three of them, unless no_new_privs is set. Who keeps CAP_SETUID can be root when it likes";
    let rootfs = trial.copy_of_rootfs();
    let number = trial.number(1000, 60000);
    let word = trial.word();
    // Not a busybox: it gives such rights up by itself.
    let program = rootfs.join("opt").join(&word);
    let made = fs::canonicalize(rootfs.join("usr/bin/witness")).and_then(|witness| {
        fs::create_dir_all(rootfs.join("opt"))?;
        fs::copy(witness, &program)?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o4755))
    });
    if made.is_err() || fs::metadata(&program).map(|found| found.uid()).ok() != Some(0) {
        return Err(Failure::new(
            "",
            "a set-user-ID program",
            "it could not be made",
            "this is the grader's fault",
        ));
    }
    let root = rootfs.display().to_string();
    let text = number.to_string();
    let mut args = ALONE.to_vec();
    args.extend(["--rootfs", &root, "--user", &text]);
    let lines = "grep -E '^(Uid|Gid|Groups):' /proc/self/status";
    let back: Vec<String> =
        ["setuid", "setgid"].iter().filter_map(|name| Some(format!("{},0", names::number(name)?))).collect();
    let script = format!("{lines}; witness calls {}; /opt/{word} | grep '\"euid\"'", back.join(" "));
    let run = trial.sh(&args, &script)?;
    let joined = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let words: Vec<String> = run.out.lines().map(joined).collect();
    let four = format!("{text} {text} {text} {text}");
    let expected = [
        (format!("Uid: {four}"), "Uid: UID UID UID UID"),
        (format!("Gid: {four}"), "Gid: UID UID UID UID"),
        ("Groups:".to_string(), "Groups: none"),
        ("EPERM".to_string(), "setuid(2) of the command to 0: EPERM"),
        ("EPERM".to_string(), "setgid(2) of the command to 0: EPERM"),
        (format!("\"euid\": {text},"), "a set-user-ID program of root's runs as UID"),
    ];
    for (index, (line, name)) in expected.iter().enumerate() {
        if words.get(index) != Some(line) {
            let saw = words.get(index).map_or_else(|| run.said(), Clone::clone);
            let saw = saw.replace(&text, "UID").replace(&word, "PROGRAM");
            let run = Run { command: run.command.replace(&text, "UID").replace(&word, "PROGRAM"), ..run };
            return Err(run.fail(*name, saw, LESSON));
        }
    }
    Ok(())
}
