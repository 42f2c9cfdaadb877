//! The checks of chapter 3.

use std::fs;
use std::path::{Path, PathBuf};

use cooperage::container::mountinfo;

use crate::check::{Check, Failure, Trial};

/// In the order of the tasks.
pub const CHECKS: &[Check] = &[
    Check {
        task: "3.1",
        explain: "All mounts of the host are made shared, as systemd does it. While a command runs that has mounted \
                  a tmpfs, and after its end, the host's mounts must be the ones that were there before.",
        needs: &["chroot", "mount-namespace", "overlay"],
        run: unseen,
    },
    Check {
        task: "3.2",
        explain: "A marked file system is mounted on the host. While the command runs, the mounts in its namespace \
                  are listed from outside (/proc/PID/mountinfo), and nsenter(1), which enters the namespace and takes \
                  its root, looks for the marked file.",
        needs: &["chroot", "mount-namespace", "overlay"],
        run: gone,
    },
    Check {
        task: "3.3",
        explain: "A directory with a file system mounted in it, and another one in that, is given as a volume: \
                  read-only, then writable. The command reads and writes a file in each of the three. Then the \
                  host writes in each.",
        needs: &["chroot", "mount-namespace", "overlay", "mount-api"],
        run: volumes,
    },
    Check {
        task: "3.4",
        explain: "The grader makes a rootfs with files of random names, mounts an overlay over it, adds, changes \
                  and deletes some, and deletes a directory and makes it again. `--diff` is asked what was done.",
        needs: &["overlay"],
        run: differences,
    },
];

fn unseen(trial: &mut Trial) -> Result<(), Failure> {
    trial.set_variable("COOPERAGE_TASK", "3.1");
    let shared = trial.host("mount --make-rshared /");
    assert!(shared.status == 0, "can't make the mounts shared: {}", shared.err);
    let before = trial.host_mounts();
    let word = trial.word();
    let new = |trial: &Trial| {
        let new: Vec<_> = trial.host_mounts().into_iter().filter(|line| !before.contains(line)).collect();
        let more = new.len().saturating_sub(1);
        new.first()
            .map(|mount| if more == 0 { mount.to_string() } else { format!("{mount}; and {more} more") })
    };
    const LESSON: &str = "a new mount namespace begins as a copy, and on this host the mounts are shared, as systemd makes \
                          them: what is mounted below one copy appears in the other. Cut that tie before the first \
                          mount, for every mount and not for / alone: see mount_namespaces(7), SHARED SUBTREES";
    const EXPECTED: &str = "nothing that is mounted in the container is seen on the host";
    let script = format!("mkdir /tmp/{word} && mount -t tmpfs {word} /tmp/{word} && echo mounted");
    match trial.start(&[], &script) {
        Ok(mut session) => {
            let said = session.line();
            if let Some(new) = new(trial) {
                return Err(session.fail(EXPECTED, format!("new on the host: {new}"), LESSON));
            }
            let run = session.end()?;
            if said != "mounted" {
                return Err(run.fail(
                    "the command can mount something",
                    run.said(),
                    "it mounts a tmpfs in /tmp",
                ));
            }
            match new(trial) {
                Some(new) => Err(run.fail(EXPECTED, format!("new on the host, afterwards: {new}"), LESSON)),
                None => Ok(()),
            }
        }
        Err(failure) => Err(match new(trial) {
            Some(new) => {
                let saw = format!("new on the host: {new}; and {}", failure.saw);
                Failure { expected: EXPECTED.to_string(), saw, lesson: LESSON.to_string(), ..failure }
            }
            None if failure.saw.contains("EINVAL") || failure.saw.contains("Invalid argument") => {
                let lesson = format!(
                    "pivot_root(2) and MS_MOVE refuse mounts that are shared with the host. {LESSON}"
                );
                Failure { lesson, ..failure }
            }
            None => failure,
        }),
    }
}

fn gone(trial: &mut Trial) -> Result<(), Failure> {
    trial.set_variable("COOPERAGE_TASK", "3.2");
    let (source, file, secret) = (trial.word(), trial.word(), trial.word());
    let place = trial.directory();
    let mounted = trial.host(&format!("mount -t tmpfs {source} {}", place.display()));
    assert!(mounted.status == 0, "can't mount a tmpfs: {}", mounted.err);
    let file = place.join(file);
    write(&file, &secret);

    let mut session = trial.start(&[], &format!("echo [$(cat {} 2>&-)]; pwd", file.display()))?;
    let (read, directory) = (session.line(), session.line());
    let pid = session.deepest().unwrap_or(session.pid());
    let expected = "no mount of the host is left in the container's namespace";
    if read != "[]" {
        let lesson = "the command's root directory is the host's";
        return Err(session.fail(
            format!("{} is not there", file.display()),
            "the command has read it",
            lesson,
        ));
    }
    if directory != "/" {
        let lesson =
            "the root has changed and the working directory has not: pivot_root(2) may leave it behind";
        return Err(session.fail("the command starts in /", directory, lesson));
    }
    let mounts = mountinfo::parse(trial.proc(&format!("{pid}/mountinfo")).unwrap_or_default().as_bytes());
    let count = mounts.len();
    if mounts.iter().any(|mount| mount.kind == "tmpfs" && mount.source == source) {
        return Err(session.fail(
            expected,
            format!("the command's mountinfo has {count} lines, and the host's mount {} is one", place.display()),
            "the old root is still mounted: it lies over or under the new one, and whoever is root in the container \
             can go there. After pivot_root(2) it has to be unmounted; as it is in use, only from the namespace (MNT_DETACH)",
        ));
    }
    let look = format!("nsenter --target {pid} --mount -- /bin/cat {}", file.display());
    if trial.host(&look).out.trim() == secret {
        return Err(session.fail(
            expected,
            "nsenter(1), which enters the namespace and takes its root, has found the host's files there",
            "the old root is hidden, not gone: it still is the root of the mount namespace, and the command merely \
             has another root directory, as with chroot(2). Root gets back with one call of setns(2)",
        ));
    }
    session.end().map(drop)
}

fn volumes(trial: &mut Trial) -> Result<(), Failure> {
    trial.set_variable("COOPERAGE_TASK", "3.3");
    let source = trial.directory();
    let (one, two, inside) = (trial.word(), trial.word(), trial.word());
    let (below, deep) = (source.join(&one), source.join(&one).join(&two));
    let made = trial.host(&format!(
        "mkdir {0} && mount -t tmpfs tmpfs {0} && mkdir {1} && mount -t tmpfs tmpfs {1}",
        below.display(),
        deep.display()
    ));
    assert!(made.status == 0, "can't mount a tmpfs: {}", made.err);
    let places = [source.clone(), below, deep];
    let words: Vec<_> = places.iter().map(|_| trial.word()).collect();
    for (place, word) in places.iter().zip(&words) {
        write(&place.join("file"), word);
    }
    let levels = [format!("/{inside}"), format!("/{inside}/{one}"), format!("/{inside}/{one}/{two}")];
    let host_writes = |mode: &str| {
        let name = format!("host-{mode}");
        places
            .iter()
            .find_map(|place| fs::write(place.join(&name), "").err().map(|error| (place.clone(), error)))
    };
    for mode in ["ro", "rw"] {
        let volume = format!("{}:/{inside}{}", source.display(), if mode == "ro" { ":ro" } else { "" });
        let script = format!(
            "for d in {}; do echo $(cat $d/file 2>&-); \
             if (echo x > $d/{mode}) 2>&-; then echo written; else echo refused; fi; done",
            levels.join(" ")
        );
        let run = trial.sh(&["--volume", &volume], &script)?;
        let lines: Vec<_> = run.out.lines().collect();
        if lines.len() != 6 {
            run.success("the command did not run: the error above says which step failed")?;
        }
        let line = |at: usize| lines.get(at).copied().unwrap_or_default();
        for (at, (level, word)) in levels.iter().zip(&words).enumerate() {
            if line(2 * at) != word {
                let lesson = match at {
                    0 => "the volume is not there",
                    _ => {
                        "something is mounted on the host in the volume, and the container has the empty directory below \
                          it: a bind mount takes one mount along, unless it is recursive"
                    }
                };
                return Err(run.fail(format!("{level}/file can be read"), "it is not there", lesson));
            }
            let wanted = if mode == "ro" { "refused" } else { "written" };
            if line(2 * at + 1) == wanted {
                continue;
            }
            let lesson = match (mode, at) {
                ("rw", _) => "a volume without :ro is there to be written to",
                (_, 0) => {
                    "the volume is writable: MS_RDONLY in the call that makes a bind mount is ignored; it takes a \
                           second call that changes the mount"
                }
                _ => {
                    "the top of the volume is read-only, and what is mounted below it is not: each mount has its own flag, \
                      and MS_REMOUNT changes one mount. A host's secrets are often on a mount of their own"
                }
            };
            let (expected, saw) = match mode {
                "ro" => (format!("nothing can be written in {level}"), "a file was written there"),
                _ => (format!("a file can be written in {level}"), "it was refused"),
            };
            return Err(run.fail(expected, saw, lesson));
        }
        if let Some((place, error)) = host_writes(mode) {
            return Err(run.fail(
                format!("the host can write to {} as before", place.display()),
                error.to_string(),
                "the file system itself was made read-only, for everyone who has it mounted: only this mount of it was \
                 meant (MS_BIND together with MS_REMOUNT, or mount_setattr(2))",
            ));
        }
    }
    Ok(())
}

/// What was done to a rootfs, and the layer that it left.
struct Story {
    lower: PathBuf,
    upper: PathBuf,
    expected: Vec<String>,
    whiteouts: Vec<String>,
    hidden: Vec<String>,
    changed: Vec<String>,
    added: Vec<String>,
}

fn differences(trial: &mut Trial) -> Result<(), Failure> {
    trial.set_variable("COOPERAGE_TASK", "3.4");
    let story = tell_story(trial);
    let (lower, upper) =
        (story.lower.to_string_lossy().into_owned(), story.upper.to_string_lossy().into_owned());
    let run = trial.run(&["--rootfs", &lower, "--diff", &upper])?;
    let seen: Vec<String> = run.out.lines().map(str::to_string).collect();
    if run.status == 0 && seen == story.expected {
        return Ok(());
    }
    let missing: Vec<_> = story.expected.iter().filter(|line| !seen.contains(line)).cloned().collect();
    let wrong: Vec<_> = seen.iter().filter(|line| !story.expected.contains(line)).cloned().collect();
    let about = |lines: &[String], paths: &[String]| {
        lines
            .iter()
            .any(|line| line.split_once(' ').is_some_and(|(_, path)| paths.iter().any(|one| one == path)))
    };
    let lesson = if run.status != 0 {
        "--diff DIR runs no command: it lists what is in the layer DIR, and ends with status 0"
    } else if missing.is_empty() && wrong.is_empty() {
        "the lines are right, but not sorted by path"
    } else if about(&wrong, &story.whiteouts) || about(&missing, &story.whiteouts) {
        "a deleted file leaves a whiteout in the layer: a character device with the number 0/0. It is not a file that \
         the container added"
    } else if about(&missing, &story.hidden) {
        "a directory that was deleted and made again is opaque: its attribute trusted.overlay.opaque is \"y\", and nothing \
         of the directory below is seen any more, though there is no whiteout for it. That holds for the directories in \
         it too, which have no attribute of their own"
    } else if about(&missing, &story.changed) {
        "what is in the layer and in the rootfs was changed, not added; and so was every directory above it"
    } else if about(&missing, &story.added) {
        "what is new was added: each file, link and directory in a new directory too"
    } else {
        "compare each path of the layer with the same path of the rootfs"
    };
    let mut saw = Vec::new();
    for (what, lines) in [("missing", &missing), ("wrong", &wrong)] {
        if !lines.is_empty() {
            saw.push(format!("{what}: {}", lines.join(", ")));
        }
    }
    if saw.is_empty() {
        saw.push(seen.join(", "));
    }
    let expected = format!("what was done, sorted by path: {}", story.expected.join(", "));
    if run.status != 0 {
        return Err(run.fail(expected, run.said(), lesson));
    }
    Err(run.fail(expected, saw.join("; "), lesson))
}

fn tell_story(trial: &mut Trial) -> Story {
    let top = trial.directory();
    // In order, so that the order of the lines is the same in every run.
    let mut names: Vec<_> = (0..14).map(|_| trial.word()).collect();
    names.sort();
    let mut names = names.into_iter();
    let mut name = || names.next().unwrap_or_default();
    let (again, changed, deleted, extra, fresh) = (name(), name(), name(), name(), name());
    let (home, kept, link, new, old) = (name(), name(), name(), name(), name());
    let (older, sub, tree, untouched) = (name(), name(), name(), name());
    let script = format!(
        "set -e; cd {top}; mkdir lower upper work merged; cd lower
         mkdir -p bin {home} {tree}/{old} {again}/{sub}/{old} {untouched}
         echo a > {home}/{kept}; echo a > {home}/{changed}; echo a > {home}/{deleted}; echo a > {tree}/{old}/{kept}
         echo a > {again}/{old}; echo a > {again}/{kept}; echo a > {again}/{sub}/{older}; echo a > {untouched}/{kept}
         cd ..; o=lowerdir={top}/lower,upperdir={top}/upper,workdir={top}/work
         case $(cat /proc/self/uid_map) in *4294967295) ;; *) o=$o,userxattr;; esac
         mount -t overlay overlay -o $o merged
         cd merged
         echo b >> {home}/{changed}; rm {home}/{deleted}; echo n > {home}/{new}; rm -r {tree}
         rm -r {again}; mkdir -p {again}/{sub}; echo b > {again}/{kept}; echo n > {again}/{new}
         echo n > {again}/{sub}/{new}; mkdir -p {fresh}/{extra}; echo n > {fresh}/{extra}/{new}; ln -s /nowhere {fresh}/{link}
         cd ..; umount merged",
        top = top.display()
    );
    let done = trial.host(&script);
    assert!(done.status == 0, "can't make a layer: {}", done.err);

    let whiteouts = vec![format!("/{home}/{deleted}"), format!("/{tree}")];
    let hidden =
        vec![format!("/{again}/{old}"), format!("/{again}/{sub}/{old}"), format!("/{again}/{sub}/{older}")];
    let changed = vec![
        format!("/{home}"),
        format!("/{home}/{changed}"),
        format!("/{again}"),
        format!("/{again}/{sub}"),
        format!("/{again}/{kept}"),
    ];
    let added = vec![
        format!("/{home}/{new}"),
        format!("/{again}/{new}"),
        format!("/{again}/{sub}/{new}"),
        format!("/{fresh}"),
        format!("/{fresh}/{extra}"),
        format!("/{fresh}/{extra}/{new}"),
        format!("/{fresh}/{link}"),
    ];
    let mut all = Vec::new();
    for (kind, paths) in [("D", &whiteouts), ("D", &hidden), ("C", &changed), ("A", &added)] {
        all.extend(paths.iter().map(|path| (path.clone(), kind)));
    }
    all.sort();
    let expected = all.into_iter().map(|(path, kind)| format!("{kind} {path}")).collect();
    Story { lower: top.join("lower"), upper: top.join("upper"), expected, whiteouts, hidden, changed, added }
}

#[allow(clippy::panic)] // the grader reports it as an error of its own
fn write(path: &Path, text: &str) {
    if let Err(error) = fs::write(path, text) {
        panic!("can't write {}: {error}", path.display());
    }
}
