//! The checks of chapter 8: who the container's users are outside, seen from there.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;

use nix::sys::signal::Signal;

use crate::check::{Check, Failure, Run, Session, Trial, namespace};

/// In the order of the tasks.
pub const CHECKS: &[Check] = &[
    Check {
        task: "8.1",
        explain: "Starts a container with --map 0:OUTSIDE:COUNT, two random numbers, and reads /proc/PID/uid_map, gid_map and \
                  setgroups of its command on the host. A file that the container makes must belong there to \
                  OUTSIDE. Then a second container with another map.",
        needs: &["many-users"],
        run: maps,
    },
    Check {
        task: "8.2",
        explain: "Starts as many containers as a random pool has ranges, looks up their maps on the host: no two may \
                  have a user in common, and none one outside of the pool. One more must fail with status 125. Then kills one \
                  runtime with SIGKILL: there must be room for a new one.",
        needs: &["many-users"],
        run: ranges,
    },
    Check {
        task: "8.3",
        explain: "Shares a directory with files of user 0 and of random users, and runs commands inside that look at the \
                  owners, write to a file of root's, and make files as root and as a random user. On the host the files \
                  that were there must have the owners that they had, and the new ones their numbers inside.",
        needs: &["many-users", "idmap-tmpfs"],
        run: shared,
    },
    Check {
        task: "8.4",
        explain: "Gives the root filesystem a passwd and a group of its own with random names, and looks who the command \
                  is. Then the same with a passwd that is a link to a file of the host, a FIFO, a directory, a device, \
                  too large, or has numbers that are none or too large: each must end with status 125, and the command \
                  must not run.",
        needs: &[],
        run: names,
    },
];

/// No link to the world.
const ALONE: [&str; 2] = ["--network", "none"];
/// How many users a range has.
const SIZE: u64 = 65536;
/// A number that no login has.
const FAR: u64 = 0x5000_0000;

/// A process of the container: the innermost, if it is in another user namespace than this one. (The runtime may have
/// entered it, too.)
fn member(session: &Session) -> Option<i32> {
    let outside = namespace(std::process::id() as i32, "user")?;
    session.deepest().filter(|&pid| namespace(pid, "user").is_some_and(|inside| inside != outside))
}

/// A map of a process: its lines, with single blanks.
fn map_of(trial: &Trial, pid: i32, file: &str) -> String {
    let text = trial.proc(&format!("{pid}/{file}")).unwrap_or_default();
    let lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    lines.collect::<Vec<_>>().join(", ")
}

fn nobody_inside(session: Session) -> Result<(), Failure> {
    Err(session.fail(
        "a process in a user namespace of its own",
        "none",
        "clone(2) with CLONE_NEWUSER makes it: that is done already, as long as the child lives",
    ))
}

fn maps(trial: &mut Trial) -> Result<(), Failure> {
    const LESSON: &str = "a line of a map has three numbers: the first inside, the first outside, how many; users and groups \
                          have a file each, which is written once";
    for _ in 0..2 {
        let outside = FAR + SIZE * trial.number(1, 1000);
        let count = trial.number(1000, 60000);
        let map = format!("0:{outside}:{count}");
        let mut args = ALONE.to_vec();
        args.extend(["--map", &map]);
        let mut session = trial.start(&args, "id -u; echo x > /tmp/made")?;
        let inside = session.line();
        let Some(pid) = member(&session) else { return nobody_inside(session) };
        if inside != "0" {
            return Err(session.fail("id -u says 0 inside", inside, LESSON));
        }
        let expected = format!("0 {outside} {count}");
        for file in ["uid_map", "gid_map"] {
            let saw = map_of(trial, pid, file);
            if saw != expected {
                let what =
                    if saw.is_empty() { "nothing".to_string() } else { with_names(&saw, outside, count) };
                return Err(session.fail(format!("/proc/PID/{file}: 0 OUTSIDE COUNT"), what, LESSON));
            }
        }
        let may = trial.proc(&format!("{pid}/setgroups")).unwrap_or_default();
        if may.trim() != "allow" {
            return Err(session.fail(
                "/proc/PID/setgroups: allow",
                may.trim(),
                "only who may map one group alone has to give up setgroups(2) before; root's containers need it, to drop \
                 the groups of whoever started them",
            ));
        }
        let owner = fs::metadata(format!("/proc/{pid}/root/tmp/made")).map(|found| u64::from(found.uid()));
        if owner.as_ref().ok() != Some(&outside) {
            return Err(session.fail(
                "a file of the container's root belongs outside to OUTSIDE",
                if owner.is_ok() { "it belongs to somebody else" } else { "no such file" },
                LESSON,
            ));
        }
        session.end()?;
    }
    Ok(())
}

/// The random numbers by their names, so that the text is the same in each run.
fn with_names(map: &str, outside: u64, count: u64) -> String {
    let name = |word: &str| match word.parse::<u64>() {
        Ok(number) if number == outside => "OUTSIDE".to_string(),
        Ok(number) if number == count => "COUNT".to_string(),
        Ok(number) if number == count - 1 => "COUNT-1".to_string(),
        Ok(number) if number > count && number < FAR => "another number".to_string(),
        _ => word.to_string(),
    };
    map.split(' ').map(name).collect::<Vec<_>>().join(" ")
}

/// First and last user of a container, outside.
fn span(trial: &Trial, pid: i32, file: &str) -> Option<(u64, u64)> {
    let map = map_of(trial, pid, file);
    let mut numbers = map.split([' ', ',']).filter_map(|word| word.parse::<u64>().ok());
    let (_, outside, count) = (numbers.next()?, numbers.next()?, numbers.next()?);
    Some((outside, outside + count - 1))
}

fn ranges(trial: &mut Trial) -> Result<(), Failure> {
    let start = FAR + SIZE * trial.number(2000, 3000);
    let count = trial.number(2, 4);
    let pool = format!("{start}:{count}");
    let mut args = ALONE.to_vec();
    args.extend(["--pool", &pool]);
    let mut alive: Vec<(Session, (u64, u64))> = Vec::new();
    for _ in 0..count {
        start_one(trial, &args, &mut alive, start, count)?;
    }
    let run = trial.sh(&args, "echo it ran")?;
    if run.status != 125 || run.out.contains("it ran") {
        return Err(run.fail(
            "with all ranges taken: status 125, and the command does not run",
            run.said(),
            "two containers with the same users are root of each other's files: rather none than a second one",
        ));
    }
    let which = trial.number(0, count - 1) as usize;
    let (killed, _) = alive.remove(which);
    let members = killed.descendants();
    killed.signal(Signal::SIGKILL)?;
    trial.eventually(|| members.iter().all(|pid| !Path::new(&format!("/proc/{pid}")).exists()));
    start_one(trial, &args, &mut alive, start, count).map_err(|failure| Failure {
        expected: "the range of a runtime that was killed by SIGKILL is free again".to_string(),
        lesson: "what a killed runtime leaves behind is a file; what it does not leave is a lock on it"
            .to_string(),
        ..failure
    })?;
    for (session, _) in alive {
        session.end()?;
    }
    Ok(())
}

fn start_one(
    trial: &mut Trial,
    args: &[&str],
    alive: &mut Vec<(Session, (u64, u64))>,
    start: u64,
    count: u64,
) -> Result<(), Failure> {
    let session = trial.start(args, "")?;
    let Some(pid) = member(&session) else { return nobody_inside(session) };
    let spans = [span(trial, pid, "uid_map"), span(trial, pid, "gid_map")];
    let (Some(users), Some(groups)) = (spans[0], spans[1]) else {
        return Err(session.fail(
            "a map",
            "none",
            "the maps are written from outside, before the child goes on",
        ));
    };
    for span in [users, groups] {
        if span.0 < start || span.1 >= start + count * SIZE || span.1 - span.0 + 1 != SIZE {
            return Err(session.fail(
                "a range of 65536 users of the pool",
                "users outside of the pool, or fewer",
                "the ranges follow one after the other: the first begins with START, the next 65536 later",
            ));
        }
    }
    if alive.iter().any(|(_, (first, last))| users.0 <= *last && *first <= users.1) {
        return Err(session.fail(
            "users that no living container has",
            "a user that another living container has, too",
            "whoever chooses must know of those who have chosen, and they of him: a lock on a file is seen by all, and held \
             as long as its holder lives and does not drop it",
        ));
    }
    alive.push((session, users));
    Ok(())
}

fn shared(trial: &mut Trial) -> Result<(), Failure> {
    const LESSON: &str = "an id-mapped mount shows each file's owner through the map of a user namespace, the container's: it is \
                          set on a mount in hand, before others can see it, and nothing on disk changes";
    let directory = trial.directory();
    let somebody = trial.number(1, 60000) as u32;
    let other = trial.number(1, 60000) as u32;
    let file = |name: &str, owner: u32| {
        let path = directory.join(name);
        let made = fs::write(&path, "text\n")
            .and_then(|()| chown(&path, Some(owner), Some(owner)))
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o600)));
        made.map(|()| path)
    };
    let (Ok(roots), Ok(somebodys)) = (file("of-root", 0), file("of-somebody", somebody)) else {
        return Err(Failure::new(
            "",
            "a directory to share",
            "it could not be made",
            "this is the grader's fault",
        ));
    };
    let option = format!("{}:/shared", directory.display());
    let mut args = ALONE.to_vec();
    args.extend(["--shared", &option]);
    let script = format!(
        "stat -c '%u %g' /shared/of-root /shared/of-somebody; echo more >> /shared/of-root && echo wrote; \
         echo x > /shared/by-root; echo x > /shared/by-other; chown {other}:{other} /shared/by-other"
    );
    let run = trial.sh(&args, &script)?;
    let expected = format!("0 0\n{somebody} {somebody}\nwrote\n");
    if run.out != expected {
        let saw =
            run.said().replace(&format!("{somebody}"), "SOMEBODY").replace(&format!("{other}"), "OTHER");
        return Err(run.fail(
            "inside, the files belong to 0 and to SOMEBODY, and root writes to its own",
            saw,
            LESSON,
        ));
    }
    let owner = |path: &Path| fs::metadata(path).map(|found| found.uid()).ok();
    let old = (owner(&roots), owner(&somebodys));
    if old != (Some(0), Some(somebody)) {
        return Err(run.fail("on disk the files keep their owners", "other owners", LESSON));
    }
    let new = (owner(&directory.join("by-root")), owner(&directory.join("by-other")));
    if new != (Some(0), Some(other)) {
        return Err(run.fail(
            "new files belong on disk to 0 and OTHER, their numbers inside",
            "to others",
            LESSON,
        ));
    }
    Ok(())
}

/// Who may be anybody: many users, or 0 alone.
fn many_users(trial: &Trial) -> bool {
    trial.proc("self/uid_map").is_some_and(|map| map.contains("4294967295"))
}

fn names(trial: &mut Trial) -> Result<(), Failure> {
    const LESSON: &str = "passwd(5): name, password, number, number of the group, and more, with colons between; the fourth \
                          field of group(5) names the members";
    let rootfs = trial.copy_of_rootfs();
    let (name, other) = (trial.word(), trial.word());
    let many = many_users(trial);
    let (uid, gid, one, two) = if many {
        let mut number = || trial.number(1, 60000);
        (number(), number(), number(), number())
    } else {
        (0, 0, 0, 0)
    };
    let passwd =
        format!("root:x:0:0::/root:/bin/sh\n{other}:x:7:7::/:/bin/sh\n{name}:x:{uid}:{gid}::/:/bin/sh\n");
    let group = match many {
        true => format!("{other}:x:7:\na:x:{one}:{other},{name}\nb:x:{two}:{name}\nc:x:9:{name}x,x{name}\n"),
        false => format!("{other}:x:0:\n"),
    };
    let put = |file: &str, text: &str| {
        let path = rootfs.join("etc").join(file);
        let _ = fs::remove_file(&path);
        let _ = fs::remove_dir(&path);
        fs::write(path, text).is_ok()
    };
    let all_put = |passwd: &str| put("passwd", passwd) && put("group", &group);
    let root = rootfs.display().to_string();
    let mut args = ALONE.to_vec();
    args.extend(["--rootfs", &root, "--user", &name]);
    let script = "echo $(id -u) $(id -g); id -G | tr ' ' '\\n' | sort -n | uniq";
    if !all_put(&passwd) {
        return Err(Failure::new("", "a passwd", "it could not be written", "this is the grader's fault"));
    }
    let run = trial.sh(&args, script)?;
    let mut groups = vec![gid, one, two];
    groups.sort_unstable();
    groups.dedup();
    let lines: Vec<String> = groups.iter().map(u64::to_string).collect();
    let expected = format!("{uid} {gid}\n{}\n", lines.join("\n"));
    if run.out != expected || run.status != 0 {
        let mut saw = run.said();
        for (number, name) in [(uid, "UID"), (gid, "GID"), (one, "FIRST"), (two, "SECOND")] {
            if many {
                saw = saw.replace(&number.to_string(), name);
            }
        }
        return Err(run.fail(
            "the command is user UID in group GID, and in the groups that name it",
            saw,
            LESSON,
        ));
    }

    let secret = trial.directory().join("passwd");
    let _ = fs::write(&secret, &passwd);
    let path = rootfs.join("etc/passwd");
    let link = |to: &Path| {
        let _ = fs::remove_file(&path);
        symlink(to, &path).is_ok()
    };
    let line = |number: &str| format!("{name}:x:{number}:0::/:/bin/sh\n");
    let padding = "# padding\n".repeat(150_000);
    type Hostile<'a> = (&'a str, Box<dyn Fn() -> bool + 'a>, &'a str);
    const INSIDE: &str = "links are followed in the container's root, not in the host's";
    const FILE: &str = "look at what was opened before it is read: only a regular file is a list of users";
    const NUMBER: &str = "what cannot be read as a number must not count as one, least of all as 0";
    let hostile: Vec<Hostile> = vec![
        ("a link to a file of the host", Box::new(|| link(&secret)), INSIDE),
        ("a FIFO", Box::new(|| fifo(&path)), FILE),
        ("a directory", Box::new(|| fs::remove_file(&path).is_ok() && fs::create_dir(&path).is_ok()), FILE),
        ("a link to /dev/zero", Box::new(|| put("passwd", "") && link(Path::new("/dev/zero"))), FILE),
        (
            "one and a half megabytes",
            Box::new(|| put("passwd", &(padding.clone() + &passwd))),
            "read no more than that",
        ),
        ("a number in letters", Box::new(|| put("passwd", &line("zero"))), NUMBER),
        ("no number", Box::new(|| put("passwd", &line(""))), NUMBER),
        ("a negative number", Box::new(|| put("passwd", &line("-1"))), NUMBER),
        (
            "a number of a user that the container does not have",
            Box::new(|| put("passwd", &line("70000"))),
            NUMBER,
        ),
        ("too few fields", Box::new(|| put("passwd", &format!("{name}:x\n"))), LESSON),
        ("no such name", Box::new(|| put("passwd", &format!("x{name}:x:0:0::/:/bin/sh\n"))), LESSON),
    ];
    for (what, make, lesson) in hostile {
        if !make() {
            return Err(Failure::new("", what, "it could not be made", "this is the grader's fault"));
        }
        let run: Run = trial.sh(&args, "echo it ran")?;
        if run.status != 125 || run.out.contains("it ran") {
            let said = run.said();
            return Err(run.fail(
                format!("etc/passwd is {what}: status 125, and the command does not run"),
                said,
                lesson,
            ));
        }
    }
    Ok(())
}

fn fifo(path: &Path) -> bool {
    let _ = fs::remove_file(path);
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::from_bits_truncate(0o644)).is_ok()
}
