//! The checks of chapter 1.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::check::{Check, Failure, Trial};

/// In the order of the tasks.
pub const CHECKS: &[Check] = &[
    Check {
        task: "1.1",
        explain: "The program gets a copy of the root filesystem with a marked file, and is started in a \
                  directory that has a secret file. The command reads the mark by an absolute path, and then \
                  tries to read the secret: by its absolute path, by its name alone, and by many `..` first. \
                  It also says where it is.",
        needs: &["chroot"],
        run: inside,
    },
    Check {
        task: "1.2",
        explain: "The program is started with two variables of random value, and with an open directory and an \
                  open file of the host. While the command runs, its descriptors and its environment are \
                  read from outside, in /proc/PID/fd and /proc/PID/environ.",
        needs: &["chroot"],
        run: pockets,
    },
    Check {
        task: "1.3",
        explain: "The program runs with --break-out and a command that reads a secret file of the host. Then \
                  the same again, but the whole program is in a chroot that the grader made: the secret is \
                  outside of that too.",
        needs: &["chroot"],
        run: out,
    },
];

fn inside(trial: &mut Trial) -> Result<(), Failure> {
    trial.set_variable("COOPERAGE_TASK", "1.1");
    let rootfs = trial.copy_of_rootfs();
    let (mark, marked) = (trial.word(), trial.word());
    write(&rootfs.join(&mark), &marked);
    let (name, secret) = (trial.word(), trial.word());
    let file = trial.working_directory().join(&name);
    write(&file, &secret);
    let file = file.to_string_lossy().into_owned();

    let script = format!(
        "echo root=$(cat /{mark} 2>&-); echo absolute=$(cat {file} 2>&-); \
         echo name=$(cat {name} 2>&-); echo up=$(cat ../../../../../../../..{file} 2>&-); \
         echo pwd=$(pwd)"
    );
    let rootfs = rootfs.to_string_lossy().into_owned();
    let run = trial.sh(&["--rootfs", &rootfs], &script)?;
    let value = |key: &str| {
        let line = run.out.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.unwrap_or_default().to_string()
    };
    let ran = |script: &str| {
        run.command.split(" -- ").next().map_or(String::new(), |it| format!("{it} -- {script}"))
    };
    let fail = |script: &str, expected: &str, saw: String, lesson: &str| {
        Err(Failure::new(ran(script), expected, saw, lesson))
    };
    if !run.out.contains("pwd=") {
        run.success("the command did not run: the error above says which step failed")?;
        return Err(run.fail("the command's output", run.said(), "the command has this program's stdout"));
    }
    if value("absolute") == secret {
        return fail(
            &format!("cat {file}"),
            "no such file: it is the host's",
            "the command has read the host's file".to_string(),
            "the command's root directory is the host's: \"/\" means the same to it as to you. chroot(2) changes \
             that, for this process and its children",
        );
    }
    if value("root") != marked {
        return fail(
            &format!("cat /{mark}"),
            "what stands in that file of the rootfs",
            run.said(),
            "the command's root directory is not the directory that --rootfs names",
        );
    }
    if value("name") == secret || value("up") == secret {
        let (script, how) = match value("name") == secret {
            true => (format!("cat {name}"), "a path without a slash in front"),
            false => (format!("cat ../../../../../../../..{file}"), "a path that begins with `..`"),
        };
        let place = working_directory(trial, &rootfs).unwrap_or_else(|| "a host directory".to_string());
        return fail(
            &script,
            "no such file: it is the host's",
            format!("by {how} the command has read the host's file"),
            &format!(
                "the command's working directory is {place}: it is outside its root; a relative path reaches the \
                 host. chroot(2) moves the root, and leaves the working directory where it is"
            ),
        );
    }
    if value("pwd") != "/" {
        return fail(
            "pwd",
            "/",
            value("pwd"),
            "the command is inside, but a command starts in the root directory of its container",
        );
    }
    Ok(())
}

/// Where the command is, seen from outside.
fn working_directory(trial: &mut Trial, rootfs: &str) -> Option<String> {
    let session = trial.start(&["--rootfs", rootfs], "").ok()?;
    let link = fs::read_link(format!("/proc/{}/cwd", session.deepest().unwrap_or(session.pid()))).ok()?;
    let _ = session.end();
    Some(link.to_string_lossy().into_owned())
}

fn pockets(trial: &mut Trial) -> Result<(), Failure> {
    trial.set_variable("COOPERAGE_TASK", "1.2");
    let (variable, password) = (trial.word().to_uppercase(), trial.word());
    let place = trial.working_directory().to_string_lossy().into_owned();
    trial.set_variable(&variable, &place);
    trial.set_variable("DATABASE_PASSWORD", &password);
    let directory = trial.directory();
    let file = directory.join(trial.word());
    write(&file, "");
    trial.hand_down(&directory);
    trial.hand_down(&file);

    let session = trial.start(&[], "")?;
    let pid = session.deepest().unwrap_or(session.pid());
    let mut open = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
        let number = entry.file_name().to_string_lossy().parse::<i32>().unwrap_or(-1);
        let target = fs::read_link(entry.path()).unwrap_or_default();
        if number > 2 {
            open.push((number, target.to_string_lossy().into_owned()));
        }
    }
    open.sort();
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let mut variables: Vec<String> = environment
        .split(|&byte| byte == 0)
        .filter(|text| !text.is_empty())
        .map(|text| String::from_utf8_lossy(text).into_owned())
        .collect();
    variables.sort();
    let run = session.end()?;

    let handed_down = directory.to_string_lossy().into_owned();
    if let Some((number, target)) = open.iter().find(|(_, to)| to.starts_with(&handed_down)).or(open.first())
    {
        let list: Vec<_> = open.iter().map(|(number, target)| format!("{number} -> {target}")).collect();
        let lesson = if target.starts_with(&handed_down) {
            format!(
                "descriptor {number} is open on the host's {target}: the command reads it, and with fchdir(2) to an \
                 open directory it walks out of its root. You did not open it; whoever started you did, under any number, and execve(2) \
                 keeps what is not marked close-on-exec"
            )
        } else {
            format!(
                "descriptor {number} ({target}) is this program's own, and the command inherits it: mark what you \
                 open close-on-exec"
            )
        };
        let expected = "the command has the descriptors 0, 1 and 2 and no other";
        return Err(run.fail(expected, format!("open too: {}", list.join(", ")), lesson));
    }
    let expected = "the environment is PATH, HOME, TERM and container=cooperage";
    let own = ["PATH", "HOME", "TERM", "container"];
    let name_of = |text: &str| text.split('=').next().unwrap_or_default().to_string();
    let strangers: Vec<_> =
        variables.iter().filter(|text| !own.contains(&name_of(text).as_str())).cloned().collect();
    if !strangers.is_empty() {
        let lesson = if strangers.iter().any(|text| text.ends_with(&password)) {
            "the command has the host's environment: paths, user names, here a password. A list of what is to go \
             forgets something; begin with an empty one"
        } else {
            "the command has variables of the host: begin with an empty environment, and add what belongs in it"
        };
        return Err(run.fail(expected, format!("there too: {}", strangers.join(" ")), lesson));
    }
    let seen = format!("it is: {}", variables.join(" "));
    if let Some(missing) = own.iter().find(|name| !variables.iter().any(|text| name_of(text) == **name)) {
        return Err(run.fail(expected, seen, format!("{missing} is missing: programs count on it")));
    }
    if !variables.iter().any(|text| text == "container=cooperage") {
        return Err(run.fail(expected, seen, "`container` tells a program what it runs in: here, cooperage"));
    }
    Ok(())
}

fn out(trial: &mut Trial) -> Result<(), Failure> {
    trial.set_variable("COOPERAGE_TASK", "1.3");
    let rootfs = trial.copy_of_rootfs();
    let secret = trial.word();
    let file = trial.directory().join(trial.word());
    write(&file, &secret);
    let (file, rootfs) = (file.to_string_lossy().into_owned(), rootfs.to_string_lossy().into_owned());
    let args = ["--rootfs", &rootfs, "--break-out", "--", "cat", &file];

    let run = trial.run(&args)?;
    if run.out.trim() != secret {
        let expected = "what stands in that file, outside of the jail";
        if run.status == 2 {
            return Err(run.fail(expected, run.said(), "the program does not know the option --break-out"));
        }
        return Err(run.fail(expected, run.said(), where_it_stands(trial, &rootfs)));
    }

    // Once more from a jail that it has not made itself.
    let jail = trial.directory();
    let script = jail.with_extension("start");
    let (jail, program) = (jail.to_string_lossy().into_owned(), trial.program().to_path_buf());
    let home = program.parent().unwrap_or(Path::new("/")).to_string_lossy().into_owned();
    let made = trial.host(&format!(
        "set -e; mount --rbind / {jail}; mount -t tmpfs tmpfs {jail}/tmp; mkdir -p {jail}{rootfs}; \
         mount --bind {rootfs} {jail}{rootfs}; case '{home}' in /tmp/*) mkdir -p '{jail}{home}'; \
         mount --bind '{home}' '{jail}{home}';; esac"
    ));
    assert!(made.status == 0, "can't make a jail: {}", made.err);
    write(&script, &format!("#!/bin/sh\nexec chroot {jail} '{}' \"$@\"\n", program.display()));
    let executable = fs::set_permissions(&script, fs::Permissions::from_mode(0o755));
    assert!(executable.is_ok(), "can't make a script");
    let name = run.command.split(' ').next().unwrap_or("the program").to_string();
    let mut jailed = match Trial::new(&script, &name, Path::new(&rootfs)) {
        Ok(jailed) => jailed,
        Err(error) => {
            return Err(run.fail("a second jail", error.to_string(), "this is the grader's own fault"));
        }
    };
    let shown = |text: &str| format!("chroot JAIL {text}");
    match jailed.run(&args) {
        Err(failure) => Err(Failure { ran: shown(&failure.ran), ..failure }),
        Ok(again) if again.out.trim() == secret => Ok(()),
        Ok(again) => Err(Failure::new(
            shown(&again.command),
            "what stands in that file, outside of all jails",
            again.said(),
            "without a jail around it the program could read that file, and in one it can't: it has not broken \
             out, but kept a way back (or never went in), and stops before the top. Climb until \"..\" leads \
             nowhere new",
        )),
    }
}

/// What is missing in a break-out that has failed, from where the command stands at its end. A file that cannot be
/// executed tells: status 126 says that its path was found from there, 127 that it was not.
fn where_it_stands(trial: &mut Trial, rootfs: &str) -> String {
    let probe = trial.word();
    write(&Path::new(rootfs).join(&probe), "");
    let mut finds = |below: &Path| {
        let command = format!("./{}", below.join(&probe).display());
        trial.run(&["--rootfs", rootfs, "--break-out", "--", &command]).is_ok_and(|run| run.status == 126)
    };
    for above in Path::new(rootfs).ancestors() {
        let Some(below) = Path::new(rootfs).strip_prefix(above).ok().filter(|below| finds(below)) else {
            continue;
        };
        return if below.as_os_str().is_empty() {
            "the command stands at the jail's own root: it has not climbed. \"..\" ends at the root directory of the \
             process and nowhere else. Which directory that is can be changed, by one call"
                .to_string()
        } else if above == Path::new("/") {
            "the command stands at the top of the host's tree, and its root is still a directory of the jail: a path \
             that begins with / starts in there. The last step is to have the place that you climbed to as the root"
                .to_string()
        } else {
            format!(
                "the command has left the jail and stands in {}: that is not the top. Climb on; the top is where \"..\" \
                 leads nowhere new",
                above.display()
            )
        };
    }
    "the command stands somewhere in the jail. \"..\" ends at the root directory of the process and nowhere else: for \
     one that stands outside of its root it never ends there. chroot(2) leaves a process where it stands; a chdir after \
     it need not"
        .to_string()
}

#[allow(clippy::panic)] // the grader reports it as an error of its own
fn write(path: &Path, text: &str) {
    if let Err(error) = fs::write(path, text) {
        panic!("can't write {}: {error}", path.display());
    }
}
