//! Chapter 9: what a command may still do, seen from inside and from outside.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use cooperage::container::capability::Capability;
use cooperage::container::power::capabilities::{Set, USUAL};
use cooperage::container::seccomp::profile::{Action, Comparison, Condition, Profile, Rule};
use cooperage::container::seccomp::program::AUDIT_ARCH;
use cooperage::container::seccomp::{Filter, machine};
use cooperage::container::sys;
use cooperage::workshop::rootfs::{self, Rootfs};
use nix::mount::{MsFlags, mount};

use crate::{libseccomp, mounts};

use crate::support::run::{Ended, Host, Running, chapter, children, eventually, real_root, run, says, sh};
use crate::support::sweep::{LESS_POWER, since};
use crate::support::{BOTH, Case, ROOT, ROOT_ITSELF, Who, binary};

pub fn cases() -> Vec<Case> {
    const OWN: &[&str] = &[ROOT_ITSELF];
    // A lab has a /sys of its own, and only the machine's root can mount there what tells of these.
    const APPARMOR: &[&str] = &[ROOT_ITSELF, "apparmor-profile"];
    const SELINUX: &[&str] = &[ROOT_ITSELF, "selinux"];
    vec![
        Case::new("five_sets_of_capabilities", BOTH, five_sets_of_capabilities),
        Case::new("capabilities_that_nobody_has", BOTH, capabilities_that_nobody_has),
        Case::new("another_user_keeps_what_was_named", ROOT, another_user_keeps_what_was_named).needs(OWN),
        Case::new("no_program_gives_more", ROOT, no_program_gives_more).needs(OWN),
        Case::new("filter_holds", BOTH, filter_holds),
        Case::new("filter_of_ones_own", BOTH, filter_of_ones_own),
        Case::new("bad_profiles", BOTH, bad_profiles),
        Case::new("filter_says_what_libseccomps_says", ROOT, filter_says_what_libseccomps_says)
            .needs(&["libseccomp"]),
        Case::new("paths_are_covered", BOTH, paths_are_covered),
        Case::new("hostile_rootfs_redirects_nothing", BOTH, hostile_rootfs_redirects_nothing),
        Case::new("root_that_is_read_only", BOTH, root_that_is_read_only),
        Case::new("own_settings_of_the_kernel", BOTH, own_settings_of_the_kernel),
        Case::new("limits_of_a_process", BOTH, limits_of_a_process),
        Case::new("limit_above_the_starters", BOTH, limit_above_the_starters),
        Case::new("devices_by_number", ROOT, devices_by_number).needs(&[ROOT_ITSELF, "cgroup-devices"]),
        Case::new("device_of_ones_own", ROOT, device_of_ones_own).needs(OWN),
        Case::new("device_that_is_lent", BOTH, device_that_is_lent),
        Case::new("oom_score", BOTH, oom_score),
        Case::new("init_has_given_up", BOTH, init_has_given_up),
        Case::new("own_program_is_out_of_reach", ROOT, own_program_is_out_of_reach).needs(OWN),
        Case::new("privileged_gives_it_back", BOTH, privileged_gives_it_back),
        Case::new("options_that_mean_nothing", BOTH, options_that_mean_nothing),
        Case::new("apparmor_names_every_container", BOTH, apparmor_names_every_container).needs(APPARMOR),
        Case::new("apparmor_is_asked_too", BOTH, apparmor_is_asked_too).needs(APPARMOR),
        Case::new("apparmor_keeps_settings_from_real_root", ROOT, apparmor_keeps_settings_from_real_root)
            .needs(APPARMOR),
        Case::new("apparmor_is_in_nobodys_way", BOTH, apparmor_is_in_nobodys_way).needs(APPARMOR),
        Case::new("selinux_names_processes_and_files", BOTH, selinux_names_processes_and_files)
            .needs(SELINUX),
        Case::new("selinux_is_asked_too", BOTH, selinux_is_asked_too).needs(SELINUX),
        Case::new("selinux_refuses_what_it_does_not_know", BOTH, selinux_refuses_what_it_does_not_know)
            .needs(SELINUX),
    ]
}

const NONE: [&str; 2] = ["--network", "none"];

fn quick<'a>(options: &[&'a str]) -> Vec<&'a str> {
    [&NONE[..], options].concat()
}

/// A line of /proc/self/status of the command, read inside.
fn status(number: u32, who: Who, options: &[&str], name: &str) -> String {
    says(number, who, &quick(options), &format!("grep ^{name}: /proc/self/status | cut -f 2"))
        .trim()
        .to_string()
}

/// One of the command's five sets.
fn set(number: u32, who: Who, options: &[&str], name: &str) -> u64 {
    u64::from_str_radix(&status(number, who, options, name), 16).expect("a set")
}

fn bit(capability: Capability) -> u64 {
    Set::of([capability]).0
}

/// A directory of this user's own.
fn directory(name: &str, who: Who) -> PathBuf {
    let path = Path::new("/tmp").join(name);
    mounts::directory(&path, who);
    path
}

/// A container that could not be made: what it says, and that nothing is left.
fn refused(number: u32, who: Who, options: &[&str], code: i32) -> Ended {
    let before = Host::now();
    let ended = sh(number, who, &quick(options), "echo it ran");
    assert_eq!(ended.status, code, "{options:?}: {}", ended.err);
    assert!(!ended.out.contains("it ran"), "{options:?}");
    Host::now().must_be(&before, "a refused option");
    ended
}

fn five_sets_of_capabilities(who: Who) {
    for number in since(LESS_POWER) {
        let all = |options: &[&str]| {
            ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"].map(|name| set(number, who, options, name))
        };
        let usual = Set::of(USUAL).0;
        assert_eq!(all(&[]), [0, usual, usual, usual, 0]);
        assert_eq!(all(&["--cap-drop", "ALL"]), [0; 5]);
        let kill = bit(Capability::KILL);
        assert_eq!(all(&["--cap-drop", "kill"])[1], usual & !kill);
        assert_eq!(all(&["--cap-drop", "ALL", "--cap-add", "CAP_KILL"]), [0, kill, kill, kill, 0]);
        let admin = bit(Capability::NET_ADMIN);
        assert_eq!(all(&["--cap-add", "NET_ADMIN"])[2], usual | admin);
        // What whoever started the runtime could hand on is not handed on.
        if who == Who::Root && real_root() {
            let mut command = chapter(number, who);
            let generous = || {
                let all = sys::permitted()?;
                sys::capset("hand it all on", all, all, all).map_err(|_| nix::errno::Errno::EPERM)
            };
            // SAFETY: two system calls between fork and exec, in a process with one thread that waits for it.
            unsafe {
                std::os::unix::process::CommandExt::pre_exec(&mut command, move || Ok(generous()?));
            }
            let ended = run(command.args([
                "--network",
                "none",
                "--userns",
                "host",
                "--",
                "grep",
                "CapInh",
                "/proc/self/status",
            ]));
            assert_eq!(ended.out, "CapInh:\t0000000000000000\n", "{}", ended.err);
        }
        // And it counts: an address can be set with it, and not without.
        let script = "ip link set lo down 2>/dev/null || ifconfig lo down";
        assert_ne!(sh(number, who, &NONE, script).status, 0);
        assert_eq!(sh(number, who, &quick(&["--cap-add", "NET_ADMIN"]), script).status, 0);
    }
}

fn capabilities_that_nobody_has(who: Who) {
    for number in since(LESS_POWER) {
        let ended = refused(number, who, &["--cap-add", "CAP_63"], 125);
        assert!(ended.err.contains("CAP_63"), "{}", ended.err);
        refused(number, who, &["--cap-add", "NO_SUCH"], 2);
        refused(number, who, &["--cap-drop", ""], 2);
    }
}

fn another_user_keeps_what_was_named(who: Who) {
    for number in since(LESS_POWER) {
        let user = ["--user", "1000", "--cap-add", "NET_BIND_SERVICE"];
        for name in ["CapEff", "CapAmb", "CapPrm", "CapInh"] {
            assert_eq!(set(number, who, &user, name), bit(Capability::NET_BIND_SERVICE), "{name}");
            assert_eq!(set(number, who, &["--user", "1000"], name), 0, "{name}");
        }
        assert_eq!(set(number, who, &["--user", "1000"], "CapBnd"), Set::of(USUAL).0);
        // Not what was added and dropped for all.
        let all_but = ["--user", "1000", "--cap-add", "ALL", "--cap-drop", "NET_ADMIN"];
        assert_eq!(set(number, who, &all_but, "CapEff") & bit(Capability::NET_ADMIN), 0);
    }
}

fn no_program_gives_more(who: Who) {
    for number in since(LESS_POWER) {
        assert_eq!(status(number, who, &[], "NoNewPrivs"), "1");
        let rootfs = Path::new("/tmp/set-user-id");
        let machines = Rootfs::find(None).expect("a rootfs");
        rootfs::copy(machines.path(), rootfs).expect("writable");
        let witness = rootfs.join("usr/bin/witness");
        fs::copy(&witness, rootfs.join("usr/bin/rise")).expect("room");
        fs::set_permissions(rootfs.join("usr/bin/rise"), Permissions::from_mode(0o4755)).expect("root may");
        let euid = |option: &str| {
            let options = ["--rootfs", "/tmp/set-user-id", "--user", "1000", "--security-opt", option];
            says(number, who, &quick(&options), "rise | grep '\"euid\"'").trim().to_string()
        };
        assert_eq!(euid("no-new-privileges"), "\"euid\": 1000,");
        // Without it, the bit counts again, and the filter is there all the same.
        assert_eq!(euid("no-new-privileges=false"), "\"euid\": 0,");
        let both = ["--security-opt", "no-new-privileges=false"];
        assert_eq!(status(number, who, &both, "NoNewPrivs"), "0");
        assert_eq!(status(number, who, &both, "Seccomp"), "2");
    }
}

fn filter_holds(who: Who) {
    for number in since(LESS_POWER) {
        assert_eq!(status(number, who, &[], "Seccomp"), "2");
        assert_eq!(status(number, who, &["--security-opt", "seccomp=unconfined"], "Seccomp"), "0");
        let unshare = "unshare --user true 2>&1 || unshare -U true 2>&1";
        assert_ne!(sh(number, who, &NONE, unshare).status, 0);
        assert_eq!(sh(number, who, &quick(&["--security-opt", "seccomp=unconfined"]), unshare).status, 0);
        // Who is given the capability is given the calls for it.
        let admin = quick(&["--cap-add", "SYS_ADMIN"]);
        assert_eq!(sh(number, who, &admin, unshare).status, 0);
        assert_eq!(sh(number, who, &admin, "mount -t tmpfs none /mnt").status, 0);
        assert_ne!(sh(number, who, &NONE, "mount -t tmpfs none /mnt").status, 0);
    }
}

fn filter_of_ones_own(who: Who) {
    let file = directory("profiles", who).join("profile.json");
    let write = |text: &str| fs::write(&file, text).expect("writable");
    let option = format!("seccomp={}", file.display());
    for number in since(LESS_POWER) {
        let options = quick(&["--security-opt", &option]);
        write(
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["mkdir", "mkdirat", "no_such_call"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]}"#,
        );
        let ended = sh(number, who, &options, "mkdir /tmp/x; echo $?");
        assert_eq!(ended.out, "1\n", "{}", ended.err);
        assert!(ended.err.contains("No space left"), "{}", ended.err);
        // One that kills: seen as a signal.
        write(
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS"}]}"#,
        );
        assert_eq!(sh(number, who, &options, "exec mkdir /tmp/x").status, 128 + libc::SIGSYS);
        // The runtime's own calls are over by then: only execve(2) comes after it.
        write(
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["execve"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13}]}"#,
        );
        assert_eq!(sh(number, who, &options, "true").status, 126);
    }
}

fn bad_profiles(who: Who) {
    let directory = directory("bad-profiles", who);
    let many = (0..3000).map(|value| {
        format!(r#"{{"names": ["ioctl"], "action": "SCMP_ACT_ALLOW", "args": [{{"index": 1, "value": {value}, "op": "SCMP_CMP_EQ"}}]}}"#)
    });
    let many = many.collect::<Vec<_>>().join(",");
    for number in since(LESS_POWER) {
        for (name, text, word) in [
            ("empty", String::new(), "EOF"),
            ("no-json", "seccomp".to_string(), "expected"),
            ("no-action", r#"{"defaultAction": "SCMP_ACT_MAYBE"}"#.to_string(), "no action"),
            ("too-long", format!(r#"{{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{many}]}}"#), "4096"),
        ] {
            let file = directory.join(name);
            fs::write(&file, text).expect("writable");
            let option = format!("seccomp={}", file.display());
            let ended = refused(number, who, &["--security-opt", &option], 125);
            assert!(ended.err.contains(word), "{name}: {}", ended.err);
        }
        let ended = refused(number, who, &["--security-opt", "seccomp=/nowhere"], 125);
        assert!(ended.err.contains("/nowhere"), "{}", ended.err);
    }
}

/// The library that runc and others make their filters with, as a judge.
fn filter_says_what_libseccomps_says(_: Who) {
    let everything: Vec<Profile> = [Set::default(), Set(u64::MAX), Set::of(USUAL)]
        .map(|held| Profile::usual(held).expect("it is ours"))
        .into_iter()
        .chain(BORDERS.map(every_comparison))
        .chain([several_conditions()])
        .collect();
    let mut compared = 0;
    for profile in everything {
        let ours = Filter::new(&profile).expect("it is small");
        let theirs = libseccomp::compile(&profile, libseccomp::Order::List);
        let newest = profile.calls.last().map_or(0, |(number, _)| *number);
        for number in 0..=newest {
            let rules =
                profile.calls.iter().find(|(known, _)| *known == number).map_or(&[][..], |(_, rules)| rules);
            let always = rules.iter().any(|rule| rule.conditions.is_empty());
            if always && rules.len() > 1 {
                continue; // theirs forgets the conditions then; for ours they come first
            }
            for first in BORDERS {
                for second in [0, 0x5412, first] {
                    let arguments = [first, second, 0, first, 0, second];
                    let [ours, theirs] = [ours.program(), &theirs[..]]
                        .map(|program| machine::run(program, AUDIT_ARCH, number, &arguments));
                    assert_eq!(
                        ours, theirs,
                        "call {number} {arguments:#x?} (left: ours, right: libseccomp's)"
                    );
                    compared += 1;
                }
            }
        }
        // Newer calls: ours says that there is no such call, theirs what holds for all others. Other kinds of calls: theirs kills.
        let newer = machine::run(ours.program(), AUDIT_ARCH, newest + 1, &[0; 6]);
        assert!(newer == Action::errno(libc::ENOSYS as u32) || profile.default.is_permissive());
        assert_eq!(machine::run(&theirs, AUDIT_ARCH, newest + 1, &[0; 6]), profile.default);
    }
    assert!(compared > 40_000, "{compared}");
}

/// Numbers around which a comparison of two halves could go wrong.
const BORDERS: [u64; 9] = [
    0,
    1,
    0x7fff_ffff,
    0xffff_ffff,
    0x1_0000_0000,
    0x1_0000_0001,
    0x7fff_ffff_ffff_ffff,
    u64::MAX - 1,
    u64::MAX,
];

/// A call for each comparison with this number.
fn every_comparison(value: u64) -> Profile {
    let comparisons = [
        Comparison::Equal(value),
        Comparison::NotEqual(value),
        Comparison::Less(value),
        Comparison::LessOrEqual(value),
        Comparison::Greater(value),
        Comparison::GreaterOrEqual(value),
        Comparison::Masked { mask: 0xffff_ffff, value: value & 0xffff_ffff },
        Comparison::Masked { mask: value, value: value & 0x00ff_00ff_00ff_00ff },
    ];
    let rule =
        |comparison| Rule { conditions: vec![Condition { argument: 0, comparison }], action: Action::ALLOW };
    let calls = (0..).zip(comparisons).map(|(number, comparison)| (number * 3, vec![rule(comparison)]));
    Profile { default: Action::errno(1), calls: calls.collect() }
}

/// Conditions that hold together, and rules that hold one by one.
fn several_conditions() -> Profile {
    let condition = |argument, comparison| Condition { argument, comparison };
    let rule = |conditions, errno| Rule { conditions, action: Action::errno(errno) };
    let both = vec![condition(0, Comparison::Equal(1)), condition(1, Comparison::NotEqual(0))];
    let three = vec![
        condition(0, Comparison::GreaterOrEqual(0x1_0000_0000)),
        condition(3, Comparison::Less(u64::MAX)),
        condition(5, Comparison::Masked { mask: 0xff, value: 0x12 }),
    ];
    let either = vec![
        rule(vec![condition(0, Comparison::Equal(1))], 5),
        rule(vec![condition(0, Comparison::Equal(0))], 6),
    ];
    Profile {
        default: Action::ALLOW,
        calls: vec![(2, vec![rule(both, 3)]), (4, vec![rule(three, 4)]), (6, either)],
    }
}

fn paths_are_covered(who: Who) {
    for number in since(LESS_POWER) {
        assert_eq!(says(number, who, &NONE, "wc -c < /proc/interrupts; wc -c < /proc/keys"), "0\n0\n");
        assert_eq!(says(number, who, &NONE, "ls -A /sys/firmware"), "");
        let open = quick(&["--security-opt", "systempaths=unconfined"]);
        assert_ne!(says(number, who, &open, "wc -c < /proc/interrupts"), "0\n");
        // A directory's cover is one that nobody can write to.
        assert_ne!(sh(number, who, &NONE, "touch /sys/firmware/x").status, 0);
        for setting in ["/proc/sys/net/ipv4/ip_forward", "/proc/sys/kernel/shmmax"] {
            let script = format!("echo 1 > {setting}");
            let ended = sh(number, who, &NONE, &script);
            assert!(ended.status != 0 && ended.err.contains("Read-only file system"), "{}", ended.err);
        }
        // Not even who may mount takes a cover away: that takes the right to unmount, which goes with SYS_ADMIN.
        assert_ne!(sh(number, who, &NONE, "umount /proc/interrupts").status, 0);
    }
}

fn hostile_rootfs_redirects_nothing(who: Who) {
    let outside = directory("of-the-host", who);
    let canary = outside.join("canary");
    fs::write(&canary, "as it was").expect("writable");
    let rootfs = Rootfs::find(None).expect("a rootfs").path().to_path_buf();
    let hostile = directory("hostile-root", who);
    let entries = fs::read_dir(&rootfs).expect("readable").flatten();
    for entry in entries.filter(|entry| !["proc", "sys", "dev"].iter().any(|name| entry.file_name() == *name))
    {
        let mut copy = std::process::Command::new("cp");
        assert!(copy.arg("-a").arg(entry.path()).arg(&hostile).status().is_ok_and(|status| status.success()));
    }
    for name in ["proc", "sys", "dev"] {
        let _ = fs::remove_dir_all(hostile.join(name));
        symlink(&outside, hostile.join(name)).expect("writable");
    }
    let before = Host::now();
    for number in since(LESS_POWER) {
        let root = hostile.display().to_string();
        let mut command = chapter(number, who);
        command.args(["--network", "none", "--rootfs", &root, "--", "sh", "-c", "wc -c < /proc/interrupts"]);
        let ended = run(&mut command);
        // Where the links lead inside there is one directory for all three: the last one mounted there is what is seen.
        assert!(ended.status == 125 || ended.out == "0\n", "{} {}", ended.out, ended.err);
        assert_eq!(fs::read_to_string(&canary).expect("it is there"), "as it was");
        assert_eq!(fs::read_dir(&outside).expect("readable").count(), 1, "something was made on the host");
    }
    Host::now().must_be(&before, "a hostile rootfs");

    // Where /sys is a link to /proc, what is mounted there last is no procfs, and has no files to cover.
    for name in ["proc", "sys", "dev"] {
        fs::remove_file(hostile.join(name)).expect("it was made");
    }
    ["proc", "dev"].iter().for_each(|name| fs::create_dir(hostile.join(name)).expect("writable"));
    symlink("/proc", hostile.join("sys")).expect("writable");
    for number in since(LESS_POWER) {
        let root = hostile.display().to_string();
        let ended = refused(number, who, &["--rootfs", &root], 125);
        assert!(ended.err.contains("something else is mounted there"), "{}", ended.err);
    }
}

fn root_that_is_read_only(who: Who) {
    for number in since(LESS_POWER) {
        let options = quick(&["--read-only", "--tmpfs", "/run:size=64k,exec", "--tmpfs", "/var/tmp"]);
        for path in ["/x", "/etc/x", "/tmp/x", "/usr/x"] {
            let ended = sh(number, who, &options, &format!("echo x > {path}"));
            assert!(
                ended.status != 0 && ended.err.contains("Read-only file system"),
                "{path}: {}",
                ended.err
            );
        }
        for path in ["/run/x", "/var/tmp/x", "/dev/shm/x"] {
            says(number, who, &options, &format!("echo x > {path} && cat {path}"));
        }
        let mounts = says(number, who, &options, "grep -E ' /(run|var/tmp) ' /proc/self/mounts");
        let lines: Vec<&str> = mounts.lines().collect();
        assert!(!lines[0].contains("noexec") && lines[0].contains("size=64k"), "{mounts}");
        assert!(lines[1].contains("noexec") && lines[1].contains("nosuid,nodev"), "{mounts}");
        let full = sh(number, who, &options, "head -c 100k /dev/zero > /run/x");
        assert_ne!(full.status, 0, "the size holds");
    }
}

fn own_settings_of_the_kernel(who: Who) {
    let host = || fs::read_to_string("/proc/sys/kernel/msgmax").expect("readable");
    let before = host();
    for number in since(LESS_POWER) {
        let options = quick(&["--sysctl", "kernel.msgmax=4321", "--sysctl", "net.ipv4.ip_forward=1"]);
        let said = says(number, who, &options, "cat /proc/sys/kernel/msgmax /proc/sys/net/ipv4/ip_forward");
        assert_eq!(said, "4321\n1\n");
        assert_eq!(host(), before);
        for (setting, status) in [
            ("kernel.core_pattern=/x", 2),
            ("net.no.such=1", 125),
            ("kernel.msgmax=many", 125),
            ("net/../kernel/core_pattern=x", 2),
        ] {
            refused(number, who, &["--sysctl", setting], status);
        }
        for users in ["private", "host"] {
            let on_the_host = ["--userns", users, "--network", "host", "--sysctl", "net.ipv4.ip_forward=1"];
            let ended = sh(number, who, &on_the_host, "echo it ran");
            assert_eq!((ended.status, ended.out.as_str()), (125, ""), "{}", ended.err);
            assert!(ended.err.contains("the host's own"), "{}", ended.err);
        }
    }
}

fn limits_of_a_process(who: Who) {
    for number in since(LESS_POWER) {
        assert_eq!(says(number, who, &NONE, "ulimit -S -n; ulimit -S -c; ulimit -H -c"), "1024\n0\n0\n");
        let options = quick(&["--ulimit", "nofile=50:60", "--ulimit", "core=100"]);
        assert_eq!(says(number, who, &options, "ulimit -S -n; ulimit -H -n"), "50\n60\n");
        assert_ne!(sh(number, who, &options, "ulimit -H -n 70").status, 0);
        assert_eq!(
            says(number, who, &quick(&["--shm-size", "1m"]), "df -k /dev/shm | tail -n 1 | awk '{print $2}'"),
            "1024\n"
        );
    }
}

fn limit_above_the_starters(who: Who) {
    for number in since(LESS_POWER) {
        let mut command = chapter(number, who);
        // Below what the lab has, for whoever starts the container.
        let limit = || nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, 200, 200);
        // SAFETY: one system call between fork and exec.
        unsafe {
            std::os::unix::process::CommandExt::pre_exec(&mut command, move || Ok(limit()?));
        }
        let many = ["--network", "none", "--ulimit", "nofile=300", "--", "true"];
        let ended = run(command.args(many));
        if real_root() && who == Who::Root {
            continue; // the first root has CAP_SYS_RESOURCE, and may
        }
        assert_eq!(ended.status, 125, "{}", ended.err);
        assert!(ended.err.contains("--ulimit nofile"), "{}", ended.err);
    }
}

fn devices_by_number(who: Who) {
    for number in since(LESS_POWER) {
        // With the host's users root may make a node of anything, and open what the controller allows.
        let host = ["--userns", "host"];
        // Whether this kernel has a driver of that number is asked later.
        let script = "mknod /tmp/d c 10 229 && : < /tmp/d";
        let ended = sh(number, who, &quick(&host), script);
        assert!(ended.status != 0 && ended.err.contains("not permitted"), "{}", ended.err);
        let allowed = sh(number, who, &quick(&host), "mknod /tmp/z c 1 5; head -c 1 /tmp/z | wc -c");
        assert_eq!(allowed.out, "1\n", "{}", allowed.err);
        let fuse = quick(&["--userns", "host", "--device", "/dev/full:/dev/mine:r"]);
        assert_eq!(sh(number, who, &fuse, "head -c 1 /dev/mine | wc -c").out, "1\n");
    }
}

fn device_of_ones_own(who: Who) {
    for number in since(LESS_POWER) {
        let options = quick(&["--device", "/dev/zero:/dev/mine"]);
        let said =
            says(number, who, &options, "stat -c '%u %g %t %T' /dev/mine; head -c 1 /dev/mine | wc -c");
        assert_eq!(said, "0 0 1 5\n1\n");
    }
}

fn device_that_is_lent(who: Who) {
    for number in since(LESS_POWER) {
        let options = quick(&["--device", "/dev/zero:/dev/deep/mine"]);
        assert_eq!(says(number, who, &options, "head -c 1 /dev/deep/mine | wc -c"), "1\n");
        for (device, status) in
            [("/dev/nothing", 125), ("/etc/passwd", 125), ("/dev", 125), ("/dev/zero:x:y", 2)]
        {
            refused(number, who, &["--device", device], status);
        }
    }
}

fn oom_score(who: Who) {
    for number in since(LESS_POWER) {
        let options = quick(&["--oom-score-adj", "321"]);
        assert_eq!(says(number, who, &options, "cat /proc/self/oom_score_adj"), "321\n");
        refused(number, who, &["--oom-score-adj", "1001"], 2);
    }
}

fn init_has_given_up(who: Who) {
    for number in since(LESS_POWER) {
        let running = Running::start(number, who, &NONE, "");
        let init = running.first();
        let line = |name: &str| {
            let text = fs::read_to_string(format!("/proc/{init}/status")).unwrap_or_default();
            let found =
                text.lines().find_map(|line| line.strip_prefix(name).map(|rest| rest.trim().to_string()));
            found.unwrap_or_default()
        };
        // It gives up when the command has been started, which may be a moment later.
        eventually("init has one right left", || {
            u64::from_str_radix(&line("CapEff:"), 16) == Ok(bit(Capability::KILL))
        });
        eventually("init can get no more", || line("NoNewPrivs:") == "1");
        assert_eq!(children(init).len(), 1);
        running.end();
        // And still it does what it is there for.
        let status = sh(number, who, &NONE, "kill -TERM $$").status;
        assert_eq!(status, 128 + libc::SIGTERM);
    }
}

/// Init's program is the runtime's. Whoever may look into init finds it, and can change it in no way.
fn own_program_is_out_of_reach(who: Who) {
    for number in since(LESS_POWER) {
        let name = format!("chapter{number:02}");
        let program = binary(&name, who);
        // A copy: what the test is about must not happen to the program that was built.
        let copy = Path::new("/tmp").join(&name);
        fs::copy(&program, &copy).expect("a copy");
        mount(Some(&copy), &program, None::<&str>, MsFlags::MS_BIND, None::<&str>).expect("mount");
        let before = (fs::read(&copy).expect("readable"), mode(&copy));
        for options in [
            &["--userns", "host", "--cap-add", "SYS_PTRACE"][..],
            &["--userns", "host", "--cap-add", "ALL"],
            &["--userns", "host", "--privileged"],
            &["--privileged"],
        ] {
            let script = "chmod 4755 /proc/1/exe; mount -o remount,rw /proc/1/exe; mount -o remount,bind,rw /proc/1/exe
                          touch /tmp/x; mount -o bind /proc/1/exe /tmp/x; chmod 4755 /tmp/x /proc/1/exe; cp /bin/sh /proc/1/exe
                          head -c 4 /proc/1/exe | tail -c 3; echo; cat /proc/1/comm";
            let ended = sh(number, who, &quick(options), script);
            let can_read = options.len() > 1;
            assert_eq!(ended.out, if can_read { format!("ELF\n{name}\n") } else { format!("\n{name}\n") });
            assert_eq!(ended.err.matches("Read-only file system").count() > 0, can_read, "{}", ended.err);
            assert_eq!(mode(&copy), before.1, "{options:?}");
            assert!(fs::read(&copy).expect("readable") == before.0, "{options:?}: another program");
        }
        // And it is the same program all the same: it finds its root filesystem, and its options.
        let bad = sh(number, who, &["--userns", "host", "--rootfs", "/tmp/no such"], "true");
        assert_eq!(bad.status, 125, "{}", bad.err);
        assert!(bad.err.contains("/tmp/no such"), "{}", bad.err);
    }
}

fn mode(file: &Path) -> u32 {
    fs::metadata(file).expect("it is there").permissions().mode()
}

fn privileged_gives_it_back(who: Who) {
    for number in since(LESS_POWER) {
        let options = ["--privileged"];
        assert_eq!(status(number, who, &options, "Seccomp"), "0");
        assert_eq!(status(number, who, &options, "NoNewPrivs"), "0");
        let admin = bit(Capability::SYS_ADMIN);
        assert_eq!(set(number, who, &options, "CapEff") & admin, admin);
        let script = "mount -t tmpfs none /mnt && unshare --user true 2>/dev/null || unshare -U true";
        assert_eq!(sh(number, who, &quick(&options), script).status, 0);
        assert_ne!(says(number, who, &quick(&options), "wc -c < /proc/interrupts"), "0\n");
        let kept = ["--privileged", "--security-opt", "no-new-privileges"];
        assert_eq!(status(number, who, &kept, "NoNewPrivs"), "1");
    }
}

fn options_that_mean_nothing(who: Who) {
    for number in since(LESS_POWER) {
        for options in [
            ["--security-opt", "no-such"],
            ["--security-opt", "no-new-privileges=maybe"],
            ["--security-opt", "seccomp="],
            ["--security-opt", "apparmor="],
            ["--security-opt", "label="],
            ["--security-opt", "label=type:"],
            ["--security-opt", "label=one-word"],
            ["--tmpfs", "relative"],
            ["--tmpfs", "/x:no-such"],
            ["--tmpfs", "/"],
            ["--ulimit", "nofile"],
            ["--ulimit", "nofile=2:1"],
            ["--sysctl", "net"],
            ["--shm-size", "0"],
            ["--device", "relative"],
        ] {
            refused(number, who, &options, 2);
        }
        // What this kernel does not have is an error, and nothing that is left out in silence.
        let on = |parameter: &str| fs::read_to_string(parameter).is_ok_and(|on| on.starts_with('Y'));
        if !on("/sys/module/apparmor/parameters/enabled") {
            let ended = refused(number, who, &["--security-opt", "apparmor=mine"], 125);
            assert!(ended.err.contains("AppArmor"), "{}", ended.err);
        }
        for label in
            ["type:container_t", "level:s0:c1,c2", "user:me_u", "role:me_r", "filetype:me_t", "u:r:t"]
        {
            // The lab's /sys is a new one, in which SELinux does not tell of itself.
            let ended = refused(number, who, &["--security-opt", &format!("label={label}")], 125);
            assert!(ended.err.contains("SELinux"), "{}", ended.err);
        }
        assert_eq!(sh(number, who, &quick(&["--security-opt", "label=disable"]), "true").status, 0);
        assert_eq!(sh(number, who, &quick(&["--security-opt", "apparmor=unconfined"]), "true").status, 0);
        let ended = refused(number, who, &["--tmpfs", "/x:size=much"], 125);
        assert!(ended.err.contains("EINVAL"), "{}", ended.err);
    }
}

/// What a process is called by a security module, as it is told inside.
const CALLED: &str = "tr -d '\\0' < /proc/self/attr/current";

/// What a process is called, seen from outside.
fn called(pid: nix::unistd::Pid) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/attr/current")).unwrap_or_default();
    text.trim_end_matches(['\0', '\n']).to_string()
}

/// Shows in the lab what the machine has: the lab's /sys is a new one.
fn show(kind: &str, place: &str) {
    let none = nix::mount::MsFlags::empty();
    nix::mount::mount(None::<&str>, place, Some(kind), none, None::<&str>).expect("root may");
}

const CONFINED: &str = "cooperage-default (enforce)";

fn apparmor_names_every_container(who: Who) {
    for number in since(LESS_POWER) {
        let name = |options: &[&str]| says(number, who, &quick(options), CALLED).trim().to_string();
        // Where no list of profiles is to be seen, nothing is done about it.
        let _ = nix::mount::umount("/sys/kernel/security");
        assert_eq!(name(&[]), "unconfined");
        show("securityfs", "/sys/kernel/security");
        for options in [&[][..], &["--no-init"], &["--security-opt", "no-new-privileges=false"]] {
            assert_eq!(name(options), CONFINED, "{options:?}");
        }
        assert_eq!(name(&["--security-opt", "apparmor=unconfined"]), "unconfined");
        assert_eq!(name(&["--privileged"]), "unconfined");
        assert_eq!(name(&["--privileged", "--security-opt", "apparmor=cooperage-default"]), CONFINED);
        if who == Who::Root {
            assert_eq!(name(&["--user", "1000"]), CONFINED);
            assert_eq!(name(&["--userns", "host"]), CONFINED);
        }
        for absent in ["no-such-profile", "/no/such/program"] {
            let option = format!("apparmor={absent}");
            let ended = refused(number, who, &["--security-opt", &option], 125);
            assert!(ended.err.contains("loaded"), "{}", ended.err);
        }
        let before = Host::now();
        // The kernel kills no orphan whose name changed at execve(2).
        let running = Running::start(number, who, &quick(&["--no-init"]), "");
        let first = running.first();
        assert_eq!(called(first), CONFINED);
        running.signal(nix::sys::signal::Signal::SIGKILL);
        eventually("the end of the container", || !Path::new(&format!("/proc/{first}")).exists());
        let running = Running::start(number, who, &NONE, "");
        let init = running.first();
        assert_eq!(children(init).into_iter().map(called).collect::<Vec<_>>(), [CONFINED]);
        eventually("init has the name too", || called(init) == CONFINED);
        assert_eq!(called(running.runtime()), "unconfined");
        running.end();
        Host::now().must_be(&before, "a container with a name");
    }
}

fn apparmor_is_asked_too(who: Who) {
    show("securityfs", "/sys/kernel/security");
    for number in since(LESS_POWER) {
        // Capability, filter and namespace allow each of them.
        for script in ["mount -t tmpfs none /mnt", "umount /proc/interrupts", "mount --bind /tmp /mnt"] {
            let admin = ["--cap-add", "SYS_ADMIN"];
            let unconfined = ["--cap-add", "SYS_ADMIN", "--security-opt", "apparmor=unconfined"];
            let ended = sh(number, who, &quick(&admin), script);
            assert_ne!(ended.status, 0, "{script}");
            if script.starts_with("mount") {
                let without = sh(number, who, &quick(&unconfined), script);
                assert_eq!(without.status, 0, "{script}: {}", without.err);
            }
        }
        // Nobody leaves it, whatever capabilities it has.
        let script = "echo changeprofile unconfined > /proc/self/attr/apparmor/current";
        let ended = sh(number, who, &quick(&["--cap-add", "ALL"]), script);
        assert_ne!(ended.status, 0);
        let all = quick(&["--cap-add", "ALL"]);
        assert!(says(number, who, &all, &format!("({script}) 2>/dev/null; {CALLED}")).contains(CONFINED));
    }
}

/// With the host's users, and nothing covered: what is left is the profile.
fn apparmor_keeps_settings_from_real_root(who: Who) {
    show("securityfs", "/sys/kernel/security");
    for number in since(LESS_POWER) {
        let bare = ["--userns", "host", "--security-opt", "systempaths=unconfined"];
        // Not with the shell's read, which takes it byte by byte: such a file gives one, and then nothing.
        let same = |setting: &str| format!("value=$(cat {setting}) && echo \"$value\" > {setting}");
        for setting in [
            "/proc/sys/vm/swappiness",
            "/proc/sys/kernel/core_pattern",
            "/proc/sys/kernel/printk_ratelimit",
            "/proc/sys/kernel/sched_rr_timeslice_ms",
            "/proc/sys/kernel/modprobe",
            "/proc/sys/fs/mount-max",
            "/proc/sys/fs/file-max",
        ] {
            // It is given the value that it has: should the profile let it, nothing is changed.
            let ended = sh(number, who, &quick(&bare), &same(setting));
            assert!(ended.status != 0 && ended.err.contains("Permission denied"), "{setting}: {}", ended.err);
            let without = [&bare[..], &["--security-opt", "apparmor=unconfined"]].concat();
            let ended = sh(number, who, &quick(&without), &same(setting));
            assert_eq!(ended.status, 0, "{setting}: {}", ended.err);
        }
        for script in [": >> /proc/sysrq-trigger", "head -c 1 /proc/kcore"] {
            let ended = sh(number, who, &quick(&bare), script);
            assert!(ended.status != 0 && ended.err.contains("Permission denied"), "{script}: {}", ended.err);
        }
        // Its own it may set.
        for setting in
            ["kernel/shmmni", "kernel/msgmax", "kernel/sem", "fs/mqueue/queues_max", "net/ipv4/ip_forward"]
        {
            let options = [&bare[..], &["--cap-add", "NET_ADMIN"]].concat();
            says(number, who, &quick(&options), &same(&format!("/proc/sys/{setting}")));
        }
    }
}

/// What programs do all the time.
fn apparmor_is_in_nobodys_way(who: Who) {
    show("securityfs", "/sys/kernel/security");
    for number in since(LESS_POWER) {
        for script in [
            "echo x > /tmp/x && ln /tmp/x /tmp/y && mv /tmp/y /tmp/z && rm /tmp/x /tmp/z",
            "cp /bin/sh /tmp/sh && /tmp/sh -c true",
            "echo 500 > /proc/self/oom_score_adj",
            "sleep 99 & kill $!",
            "true | cat",
            "ps > /dev/null",
        ] {
            says(number, who, &NONE, script);
        }
        // Signals go both ways between init and the command.
        assert_eq!(sh(number, who, &NONE, "kill -TERM 1; sleep 99").status, 128 + libc::SIGTERM);
        let running = Running::start(number, who, &NONE, "");
        assert_eq!(running.signal(nix::sys::signal::Signal::SIGTERM).status, 128 + libc::SIGTERM);
    }
}

fn selinux_names_processes_and_files(who: Who) {
    show("selinuxfs", "/sys/fs/selinux");
    for number in since(LESS_POWER) {
        let name = |options: &[&str]| says(number, who, &quick(options), CALLED).trim().to_string();
        let level = ["--security-opt", "label=level:s0:c1,c2"];
        assert_eq!(name(&level), "system_u:system_r:container_t:s0:c1,c2");
        let own = called(nix::unistd::Pid::this());
        assert_eq!(name(&[]), own, "who asks for nothing keeps what there is");
        assert_eq!(name(&[&level[..], &["--security-opt", "label=disable"]].concat()), own);
        assert_eq!(name(&["--security-opt", "label=type:spc_t"]), "system_u:system_r:spc_t:s0");
        let whole = "system_u:system_r:spc_t:s0:c3";
        assert_eq!(name(&["--security-opt", &format!("label={whole}")]), whole);

        let options = [&level[..], &["--tmpfs", "/run"]].concat();
        let mounts = says(number, who, &quick(&options), "cat /proc/self/mounts");
        let files = "context=\"system_u:object_r:container_file_t:s0:c1,c2\"";
        for place in ["/", "/dev", "/dev/shm", "/dev/pts", "/run"] {
            let line =
                mounts.lines().find(|line| line.split(' ').nth(1) == Some(place)).expect("it is mounted");
            assert!(line.contains(files), "{line}");
        }
        let before = Host::now();
        let running = Running::start(number, who, &quick(&level), "");
        let names: Vec<_> = children(running.first()).into_iter().map(called).collect();
        assert_eq!(names, ["system_u:system_r:container_t:s0:c1,c2"]);
        running.end();
        Host::now().must_be(&before, "a container with a name");
    }
}

fn selinux_is_asked_too(who: Who) {
    show("selinuxfs", "/sys/fs/selinux");
    let enforced = fs::read_to_string("/sys/fs/selinux/enforce").expect("readable").trim() == "1";
    let directory = directory("of-the-host", who);
    fs::write(directory.join("file"), "text").expect("writable");
    let volume = format!("{}:/mnt", directory.display());
    for number in since(LESS_POWER) {
        let reads = |option: &str| {
            let options = ["--security-opt", option, "--volume", &volume];
            sh(number, who, &quick(&options), "cat /mnt/file")
        };
        // All that a mount and the file's owner ask is granted.
        for option in ["label=disable", "label=type:spc_t"] {
            assert_eq!(reads(option).out, "text", "{option}");
        }
        let ended = reads("label=type:container_t");
        assert_eq!(ended.err.contains("Permission denied"), enforced, "{} {}", ended.out, ended.err);
        assert_eq!(ended.out == "text", !enforced);
        // Its own files are its own.
        let script = "echo x > /tmp/x && cat /tmp/x && cp /bin/sh /tmp/sh && /tmp/sh -c 'echo y > /dev/shm/y; cat /dev/shm/y'";
        assert_eq!(
            says(number, who, &quick(&["--security-opt", "label=type:container_t"]), script),
            "x\ny\n"
        );
    }
}

fn selinux_refuses_what_it_does_not_know(who: Who) {
    show("selinuxfs", "/sys/fs/selinux");
    for number in since(LESS_POWER) {
        for option in ["label=type:no_such_t", "label=filetype:no_such_t", "label=level:s99", "label=a:b:c:d"]
        {
            let ended = refused(number, who, &["--security-opt", option], 125);
            assert!(ended.err.contains("EINVAL"), "{option}: {}", ended.err);
        }
    }
}
