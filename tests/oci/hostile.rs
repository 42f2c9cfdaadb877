//! Bundles and images that are meant to get out, or to have the runtime do it for them: what went wrong in runc, crun and youki, and
//! what else could. The machine of these tests is the lab; what it must not lose is in [`Machine`].

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cooperage::container::mountinfo;
use serde_json::json;

use crate::kit::{Bundle, ROOTFS, Said, give, oci, runtime, say};
use crate::support::run::{as_who, eventually};
use crate::support::{BOTH, Case, ROOT, Who, binary};

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("cve_2016_9962_the_runtime_is_not_looked_into", ROOT, cve_2016_9962),
        Case::new("cve_2019_5736_the_runtimes_program_is_not_written", BOTH, cve_2019_5736),
        Case::new("cve_2019_16884_nothing_covers_proc", BOTH, cve_2019_16884),
        Case::new("cve_2019_19921_proc_is_no_link", BOTH, cve_2019_19921),
        Case::new("cve_2021_30465_a_link_in_between", ROOT, cve_2021_30465),
        Case::new("cve_2021_43784_long_mappings_are_whole", ROOT, cve_2021_43784),
        Case::new("cve_2022_29162_nothing_is_inheritable", BOTH, cve_2022_29162),
        Case::new("cve_2023_25809_cgroups_are_read_only", BOTH, cve_2023_25809),
        Case::new("cve_2024_21626_no_directory_of_the_host", BOTH, cve_2024_21626),
        Case::new("cve_2024_45310_nothing_is_made_outside", BOTH, cve_2024_45310),
        Case::new("cve_2025_31133_null_is_null", BOTH, cve_2025_31133),
        Case::new("cve_2025_52565_the_console_is_no_link", ROOT, cve_2025_52565),
        Case::new("cve_2025_52881_sysctls_go_where_they_should", ROOT, cve_2025_52881),
        Case::new("cve_2025_24965_files_of_the_runtime_in_an_image", BOTH, cve_2025_24965),
        Case::new("users_that_take_for_ever_to_read", BOTH, users_that_take_for_ever_to_read),
    ]
}

/// What is outside: a secret, and a directory in which nothing may appear.
const SECRET: &str = "/tmp/outside/secret";

/// What of the machine an attack could have changed.
#[derive(Debug, PartialEq, Eq)]
struct Machine {
    mounts: Vec<String>,
    outside: Vec<String>,
    secret: String,
    core_pattern: String,
    ttl: String,
}

impl Machine {
    fn now() -> Machine {
        if !Path::new(SECRET).exists() {
            fs::create_dir_all("/tmp/outside").expect("new");
            fs::write(SECRET, "the secret\n").expect("new");
            fs::set_permissions("/tmp/outside", std::os::unix::fs::PermissionsExt::from_mode(0o777))
                .expect("ours");
        }
        let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
        let mut outside: Vec<String> = fs::read_dir("/tmp/outside")
            .expect("there")
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        outside.sort();
        Machine {
            mounts: mountinfo::here().expect("readable").iter().map(ToString::to_string).collect(),
            outside,
            secret: read(SECRET),
            core_pattern: read("/proc/sys/kernel/core_pattern"),
            ttl: read("/proc/sys/net/ipv4/ip_default_ttl"),
        }
    }
}

/// Nothing outside is changed by this, and nothing of it is read.
#[track_caller]
fn stays_inside(what: &str, attack: impl FnOnce() -> Said) -> Said {
    let before = Machine::now();
    let said = attack();
    assert_eq!(Machine::now(), before, "{what}");
    assert!(!said.out.contains("the secret"), "{what}: {}", said.out);
    assert!([0, 1, 125, 126, 127].contains(&said.status), "{what}: {} {}", said.status, said.err);
    said
}

/// The runtime joins a container to run a process there, and until execve(2) a process inside could ptrace it or open what it has open.
/// Here it is not dumpable before it enters.
fn cve_2016_9962(who: Who) {
    let script = "while :; do for p in /proc/[0-9]*; do for link in $p/exe $p/cwd $p/root $p/fd/*; do \
                  test $p = /proc/1 || test $p = /proc/$$ || readlink $link 2>/dev/null; done; done; done";
    let up = Bundle::sh(who, "a", script).up("one");
    // Another container with the same processes, whose first one is held while it still is the runtime's.
    let hook = json!({"path": "/bin/sleep", "args": ["sleep", "0.5"]});
    let path = format!("/proc/{}/ns/pid", up.pid());
    let other = Bundle::new(who, "b", &["/bin/true"])
        .namespace("pid", Some(&path))
        .set("/hooks", json!({"createContainer": [hook]}));
    stays_inside("create", || other.run("two").good());
    for _ in 0..30 {
        stays_inside("exec", || oci(who, &["exec", "one", "/bin/true"]).good());
    }
    // One that stays for it to look at.
    oci(who, &["exec", "--detach", "one", "/bin/sleep", "1000"]).good();
    eventually("it looks at others", || up.said.out_now().contains("busybox"));
    let seen = up.said.out_now();
    // Its own short-lived commands, and those of exec, are all that it may look at.
    let foreign = |line: &&str| {
        !["/usr/bin/busybox", "/bin/busybox", "/", "/memfd:said (deleted)", "/dev/null"].contains(line)
            && !line.starts_with("pipe:")
            && !line.starts_with("/proc")
            && !line.starts_with("/bin")
    };
    let mut lines: Vec<&str> = seen.lines().filter(foreign).collect();
    lines.sort_unstable();
    lines.dedup();
    assert_eq!(lines, Vec::<&str>::new());
}

/// /proc/self/exe of a process that is about to be the container's is the runtime's own file; an image has it run again, and writes to
/// it. Here it runs from a mount that is read-only, so that there is no way to the file but one that can't be written to.
fn cve_2019_5736(who: Who) {
    let program = binary("chapter10", who);
    let before = fs::read(&program).expect("readable");
    // A copy, since it is to be spoiled.
    let program = {
        let copy = std::path::PathBuf::from("/tmp/program");
        fs::copy(&program, &copy).expect("a copy");
        give(&copy, who);
        copy
    };
    let told = |arguments: &[&str]| {
        let mut command = std::process::Command::new(&program);
        command.args(arguments).env_clear().stdin(std::process::Stdio::null());
        as_who(&mut command, who);
        command
    };
    // It holds on to the program that it runs, becomes another, and writes to it as soon as nobody runs it any more.
    let script = "test -s /proc/self/fd/7 && echo REACHED; mount -o remount,rw /proc/self/fd/7 2>/dev/null && echo REMOUNTED; \
                  for try in 1 2 3 4 5; do echo evil >> /proc/self/fd/7 && echo WRITTEN; sleep 0.1; done; echo the end";
    for trace in [false, true] {
        let name = if trace { "b" } else { "a" };
        // Linked to libraries, the runtime has the image's own dynamic linker run first.
        let mut bundle = Bundle::new(who, name, &["/proc/self/exe"]).own_rootfs();
        let linker = bundle.rootfs().join("lib64/ld-linux-x86-64.so.2");
        let _ = fs::create_dir_all(bundle.rootfs().join("lib64"));
        let _ = fs::remove_file(&linker);
        fs::write(&linker, evil_linker(script)).expect("written");
        fs::set_permissions(&linker, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("ours");
        if trace {
            for set in ["bounding", "effective", "permitted"] {
                for capability in ["CAP_SYS_PTRACE", "CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"] {
                    bundle = bundle.add(&format!("/process/capabilities/{set}"), json!(capability));
                }
            }
        }
        // As the container's first process, and as one that is added.
        let directory = bundle.directory.to_str().expect("text").to_string();
        let tried = |said: &Said| {
            eventually("the end", || {
                said.out_now().contains("the end") || said.err_now().contains("chapter10")
            });
            let (out, err) = (said.out_now(), said.err_now());
            assert!(!out.contains("WRITTEN") && !out.contains("REMOUNTED"), "{name}: {out}{err}");
            assert!(fs::read(&program).expect("readable") == before, "{name}: the runtime was changed");
            assert!(
                out.contains("REACHED") || !is_linked(&before),
                "{name}: it was not even tried: {out}{err}"
            );
        };
        tried(&stays_inside("run", || say(&mut told(&["run", "--detach", "--bundle", &directory, "one"]))));
        oci(who, &["delete", "--force", "one"]).good();
        let up = bundle.set("/process/args", json!(["/bin/sleep", "1000"])).up("two");
        tried(&stays_inside("exec", || say(&mut told(&["exec", "--detach", "two", "/proc/self/exe"]))));
        drop(up);
    }
}

/// Does it need a dynamic linker, where we have a wrong one?
fn is_linked(program: &[u8]) -> bool {
    let name = b"/lib64/ld-linux-x86-64.so.2\0";
    cfg!(target_arch = "x86_64") && program.windows(name.len()).any(|part| part == name)
}

/// A dynamic linker of x86-64 that links nothing: it opens /proc/self/exe as descriptor 7, and becomes a shell with this script.
fn evil_linker(script: &str) -> Vec<u8> {
    const BASE: usize = 0x78; // after both headers
    let mut code: Vec<u8> = Vec::new();
    let mut places: Vec<(usize, usize)> = Vec::new(); // where an address goes, and of which text
    let mut lea = |code: &mut Vec<u8>, operation: [u8; 3], text: usize| {
        code.extend(operation);
        places.push((code.len(), text));
        code.extend([0; 4]);
    };
    const RAX: [u8; 3] = [0x48, 0x8d, 0x05];
    const RDI: [u8; 3] = [0x48, 0x8d, 0x3d];
    lea(&mut code, RDI, 0);
    code.extend([0x31, 0xf6, 0xb8, 2, 0, 0, 0, 0x0f, 0x05]); // open(path, O_RDONLY)
    code.extend([0x89, 0xc7, 0xbe, 7, 0, 0, 0, 0xb8, 33, 0, 0, 0, 0x0f, 0x05]); // dup2(it, 7)
    code.extend([0x6a, 0]);
    lea(&mut code, RAX, 3);
    code.push(0x50);
    lea(&mut code, RAX, 2);
    code.push(0x50);
    lea(&mut code, RDI, 1);
    code.extend([0x57, 0x48, 0x89, 0xe6, 0x31, 0xd2, 0xb8, 59, 0, 0, 0, 0x0f, 0x05]); // execve(sh, [sh, -c, script])
    code.extend([0xbf, 99, 0, 0, 0, 0xb8, 60, 0, 0, 0, 0x0f, 0x05]); // exit(99)
    for (number, text) in ["/proc/self/exe", "/bin/sh", "-c", script].iter().enumerate() {
        let at = code.len();
        for (place, _) in places.iter().filter(|(_, wanted)| *wanted == number) {
            code[*place..place + 4].copy_from_slice(&((at - place - 4) as u32).to_le_bytes());
        }
        code.extend(text.as_bytes());
        code.push(0);
    }
    let size = (BASE + code.len()) as u64;
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend([3, 0, 62, 0, 1, 0, 0, 0]); // a shared object, x86-64
    for word in [BASE as u64, 64, 0] {
        file.extend(word.to_le_bytes()); // entry, program headers, no sections
    }
    file.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    file.extend([1, 0, 0, 0, 5, 0, 0, 0]); // to be loaded, readable and executable
    for word in [0, 0, 0, size, size, 0x1000] {
        file.extend(word.to_le_bytes());
    }
    assert_eq!(file.len(), BASE);
    file.extend(code);
    file
}

/// An image said that /proc is a volume, and the runtime wrote a profile's name into a file of the image's. Here nothing is mounted
/// over what the kernel tells, but for the files that LXCFS has answers of its own for.
fn cve_2019_16884(who: Who) {
    fs::create_dir_all("/tmp/fake/self/attr").expect("new");
    for file in ["self/attr/exec", "file"] {
        fs::write(Path::new("/tmp/fake").join(file), "").expect("new");
    }
    for (source, destination) in [
        ("/tmp/fake", "/proc/self"),
        ("/tmp/fake", "/proc/1"),
        ("/tmp/fake", "/proc/self/attr"),
        ("/tmp/fake", "/proc/sys/kernel"),
        ("/tmp/fake", "/proc/sys"),
        ("/tmp/fake/file", "/proc/self/attr/exec"),
        ("/tmp/fake/file", "/proc/sys/kernel/hostname"),
        ("/tmp/fake/file", "/tmp/../proc/sys/kernel/hostname"),
        ("/proc/version", "/proc/self/attr/exec"),
        ("/proc/sys", "/proc/self"),
    ] {
        let bundle = Bundle::sh(who, "a", "true").mount(source, destination, "bind", &["rbind"]);
        let said = stays_inside(destination, || bundle.run("one"));
        said.bad(125, "it would cover a file of /proc");
    }
    // And over all of it: sysctls are not written there.
    let bundle =
        Bundle::sh(who, "a", "true").without_mount("/proc").mount("/tmp/fake", "/proc", "bind", &["rbind"]);
    let bundle = bundle.namespace("network", None).set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"}));
    fs::create_dir_all("/tmp/fake/sys/net/ipv4").expect("new");
    fs::write("/tmp/fake/sys/net/ipv4/ip_forward", "").expect("new");
    stays_inside("/proc", || bundle.run("one")).bad(125, "something else is mounted on /proc");
    assert_eq!(fs::read_to_string("/tmp/fake/sys/net/ipv4/ip_forward").expect("there"), "");
    let allowed =
        Bundle::sh(who, "a", "cat /proc/uptime").mount("/tmp/fake/file", "/proc/uptime", "bind", &["bind"]);
    assert_eq!(stays_inside("/proc/uptime", || allowed.run("one").good()).out, "");
}

/// The image's /proc is a link, and with it the kernel's files are anywhere, the masks and the labels elsewhere (CVE-2023-27561,
/// CVE-2023-28642; youki's CVE-2025-54867). Here no link leads to a place for /proc or /sys, and none leads out.
fn cve_2019_19921(who: Who) {
    for (name, may) in [("proc", false), ("sys", false), ("dev", true)] {
        for target in ["/evil", "evil", "../../../../../../tmp/outside", "/tmp/outside"] {
            let bundle =
                Bundle::sh(who, "a", "cat /proc/self/mountinfo; cat /tmp/outside/secret").own_rootfs();
            let place = bundle.rootfs().join(name);
            fs::remove_dir_all(&place).expect("there");
            symlink(target, &place).expect("new");
            fs::create_dir_all(bundle.rootfs().join("evil/sys")).expect("new");
            fs::create_dir_all(bundle.rootfs().join("evil/self/attr")).expect("new");
            let said = stays_inside(&format!("/{name} -> {target}"), || bundle.run("one"));
            let may = may || (name == "sys" && who == Who::User);
            if !may {
                assert_eq!(said.status, 125, "/{name} -> {target}: {}", said.out);
            }
            // Wherever it is, it is below the new root, and the masks are on it.
            if said.status != 125 {
                assert!(!said.out.contains("/tmp/bundles/a/rootfs"), "{}", said.out);
            }
            fs::remove_dir_all(bundle.rootfs()).expect("ours");
        }
    }
}

/// Two containers share a volume. While one is made, the other puts a link in the place of a directory that was looked at, and the
/// mount is made where the link leads: on the host. Here what was looked at is held, and what is held is mounted on.
fn cve_2021_30465(who: Who) {
    let shared = Path::new("/tmp/shared");
    fs::create_dir_all(shared.join("dir")).expect("new");
    symlink("/", shared.join("link")).expect("new");
    fs::create_dir_all("/tmp/mark").expect("new");
    let (dir, link) = (shared.join("dir"), shared.join("link"));
    let over = AtomicBool::new(false);
    let script = "cat /proc/self/mountinfo; cat /tmp/outside/secret; ls /work /tmp/bundles 2>/dev/null";
    let bundle = Bundle::sh(who, "a", script)
        .mount("/tmp/shared", "/vol", "bind", &["rbind"])
        .mount("tmpfs", "/vol/dir/deep", "tmpfs", &[])
        .mount("/tmp/mark", "/vol/dir/deeper/still", "bind", &["bind"]);
    let before = Machine::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                // Both have a name at any moment: they change places.
                let flags = nix::fcntl::RenameFlags::RENAME_EXCHANGE;
                let at = nix::fcntl::AT_FDCWD;
                nix::fcntl::renameat2(at, &dir, at, &link, flags).expect("exchanged");
                std::thread::sleep(Duration::from_micros(50));
            }
        });
        for _ in 0..40 {
            let said = bundle.run("one");
            assert!(!said.out.contains("the secret") && !said.out.contains("bundles/a"), "{}", said.out);
            for line in said.out.lines().filter(|line| line.contains(" - ")) {
                let point = line.split(' ').nth(4).unwrap_or_default();
                let known =
                    ["/proc", "/dev", "/sys", "/vol", "/deep"].iter().any(|known| point.starts_with(known));
                assert!(known || point == "/", "{line}");
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    assert_eq!(Machine::now(), before);
    // Where the link leads, for who follows it outside.
    assert!(!Path::new("/deep").exists() && !Path::new("/deeper").exists(), "made on the host");
}

/// A length of 16 bits was too short for long mappings, and what was left over was read as further orders. There is no such message
/// here; a mapping is whole, or an error.
fn cve_2021_43784(who: Who) {
    let lines = |count: u32| {
        let all: Vec<_> = (0..count)
            .map(|number| json!({"containerID": number, "hostID": 100_000 + number * 2, "size": 1}))
            .collect();
        json!(all)
    };
    let bundle = |count: u32| {
        Bundle::sh(
            who,
            "a",
            "wc -l < /proc/self/uid_map; wc -l < /proc/self/gid_map; tail -n1 /proc/self/uid_map",
        )
        .namespace("user", None)
        .set("/linux/uidMappings", lines(count))
        .set("/linux/gidMappings", lines(count))
    };
    let said = stays_inside("250 lines", || bundle(250).run("one").good()).out;
    let words: Vec<&str> = said.split_whitespace().collect();
    assert_eq!(words, ["250", "250", "249", "100498", "1"]);
    // More than the kernel takes.
    stays_inside("5000 lines", || bundle(5000).run("one")).bad(125, "uid_map");
}

/// exec --cap put the capability into the inheritable set, from which a program's file may take it (in crun CVE-2022-27650, in youki
/// CVE-2025-27612: the container's own process, too).
fn cve_2022_29162(who: Who) {
    let sets = "grep -E 'Cap(Inh|Amb)' /proc/self/status";
    let empty = "CapInh:\t0000000000000000\nCapAmb:\t0000000000000000\n";
    let bundle = Bundle::sh(who, "a", sets);
    assert_eq!(stays_inside("run", || bundle.run("one").good()).out, empty);
    let up = Bundle::idle(who, "b").up("two");
    for options in [&[][..], &["--cap", "CAP_CHOWN"], &["--cap", "CAP_SYS_ADMIN"]] {
        let mut line = runtime(who);
        line.arg("exec").args(options).args(["two", "/bin/sh", "-c", sets]);
        assert_eq!(say(&mut line).good().out, empty, "{options:?}");
    }
    drop(up);
}

/// Without a cgroup namespace the machine's own cgroups were seen, and could be written to although ro was asked for.
fn cve_2023_25809(who: Who) {
    let script = "grep /sys/fs/cgroup /proc/self/mountinfo; mkdir /sys/fs/cgroup/evil /sys/fs/cgroup/*/evil 2>/dev/null && echo MADE; true";
    let options = ["nosuid", "noexec", "nodev", "relatime", "ro"];
    for own in [true, false] {
        let mut bundle = Bundle::sh(who, "a", script);
        if who == Who::User {
            bundle = bundle.mount("cgroup", "/sys/fs/cgroup", "cgroup", &options);
        }
        if !own {
            bundle = bundle.without_namespace("cgroup");
        }
        let said = stays_inside("cgroups", || bundle.run("one").good()).out;
        assert!(!said.contains("MADE"), "{said}");
        let mut points = std::collections::BTreeMap::new();
        for line in said.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            // The last one of a place is the one that is seen.
            points.insert(words[4], words[5]);
        }
        assert!(!points.is_empty(), "{said}");
        for (point, flags) in points {
            assert!(flags.split(',').any(|flag| flag == "ro"), "{point} {flags}: {said}");
        }
    }
}

/// A directory of the host was open while the container was made, and process.cwd led there: /proc/self/fd/7. Here the working
/// directory is seen to be below the new root, and nothing is open but what was handed on.
fn cve_2024_21626(who: Who) {
    let look = "cat ../../../../../../../../tmp/outside/secret ../outside/secret tmp/outside/secret 2>/dev/null; true";
    let up = Bundle::idle(who, "b").up("two");
    for fd in 3..24 {
        for below in ["", "/", "/.."] {
            let directory = format!("/proc/self/fd/{fd}{below}");
            let bundle = Bundle::sh(who, "a", look).set("/process/cwd", json!(directory));
            stays_inside(&directory, || bundle.run("one"));
            let line = ["exec", "--cwd", &directory, "two", "/bin/sh", "-c", look];
            stays_inside(&directory, || oci(who, &line));
        }
        let program = format!("/proc/self/fd/{fd}/../../../bin/sh");
        let bundle = Bundle::new(who, "a", &[&program, "-c", look]);
        stays_inside(&program, || bundle.run("one"));
    }
    drop(up);
    // One that the client has handed on by itself: open it may be, but nobody works there.
    let bundle = Bundle::sh(who, "a", "cat secret").set("/process/cwd", json!("/proc/self/fd/3"));
    let mut line = bundle.command("run", &["--preserve-fds", "1"], "one");
    // SAFETY: system calls only, between fork and exec.
    unsafe {
        line.pre_exec(|| {
            let directory = libc::open(c"/tmp/outside".as_ptr(), libc::O_RDONLY | libc::O_DIRECTORY);
            nix::errno::Errno::result(libc::dup2(directory, 3)).map(drop).map_err(Into::into)
        });
    }
    let said = stays_inside("a directory that is handed on", || say(&mut line));
    assert!(said.status == 125 && said.err.contains("outside of the container"), "{}", said.err);
    let bundle = Bundle::sh(who, "a", "ls -l /proc/self/fd 2>/dev/null | sed -n 's/.* -> //p'");
    let said = bundle.run("one").good().out;
    let open: Vec<&str> = said.lines().filter(|line| !line.starts_with("pipe:")).collect();
    assert!(
        open[0] == "/dev/null"
            && open[1..].iter().all(|name| name.contains("(deleted)") || name.starts_with("/dev/null")),
        "{said}"
    );
}

/// In a volume that containers share, a link had the runtime make empty files and directories anywhere on the host. Here each is made
/// in a directory that is held, below the new root.
fn cve_2024_45310(who: Who) {
    let shared = Path::new("/tmp/shared");
    fs::create_dir_all(shared).expect("new");
    fs::set_permissions(shared, std::os::unix::fs::PermissionsExt::from_mode(0o777)).expect("ours");
    for (number, target) in [
        "/tmp/outside",
        "../../../../../../tmp/outside",
        "/proc/self/cwd/tmp/outside",
        "/proc/1/root/tmp/outside",
    ]
    .iter()
    .enumerate()
    {
        let name = format!("link{number}");
        symlink(target, shared.join(&name)).expect("new");
        for (source, kind, end) in [
            ("/tmp/shared", "bind", "new/dir"),
            ("/tmp/outside/secret", "bind", "new/file"),
            ("tmpfs", "tmpfs", "new/tmp"),
            ("/tmp/outside/secret", "bind", "made"),
        ] {
            let options: &[&str] = if kind == "bind" { &["rbind"] } else { &[] };
            let bundle = Bundle::sh(who, "a", "true").mount("/tmp/shared", "/vol", "bind", &["rbind"]).mount(
                source,
                &format!("/vol/{name}/{end}"),
                kind,
                options,
            );
            stays_inside(target, || bundle.run("one"));
        }
        let bundle = Bundle::sh(who, "a", "true").mount("/tmp/shared", "/vol", "bind", &["rbind"]).add(
            "/linux/devices",
            json!({"path": format!("/vol/{name}/device"), "type": "c", "major": 1, "minor": 3}),
        );
        stays_inside("a device", || bundle.run("one"));
        let bundle = Bundle::sh(who, "a", "true")
            .mount("/tmp/shared", "/vol", "bind", &["rbind"])
            .set("/process/cwd", json!(format!("/vol/{name}/cwd")));
        stays_inside("a working directory", || bundle.run("one"));
    }
}

/// /dev/null of the image was a link, and what it led to was mounted over what was to be hidden, so that it could be written to
/// (youki's CVE-2025-62161). Here the cover is the machine's own device, and a device that the image brings along is the right one or
/// an error.
fn cve_2025_31133(who: Who) {
    let script = "for file in /etc/masked /etc/below/masked; do stat -c '%F %t:%T' $file; echo x > $file; done; cat /etc/hidden/x";
    let masked = json!(["/etc/masked", "/etc/below/masked", "/etc/hidden", "/no/such"]);
    for (number, target) in
        ["/etc/passwd", "/proc/sys/kernel/core_pattern", "../../../../../tmp/outside/secret", "zero"]
            .iter()
            .enumerate()
    {
        let bundle = Bundle::sh(who, &format!("a{number}"), script).own_rootfs().without_mount("/dev");
        let mut bundle = bundle.set("/linux/maskedPaths", masked.clone());
        for below in ["/dev/pts", "/dev/shm", "/dev/mqueue"] {
            bundle = bundle.without_mount(below);
        }
        let root = bundle.rootfs();
        fs::create_dir_all(root.join("etc/below")).expect("new");
        fs::create_dir_all(root.join("etc/hidden")).expect("new");
        for file in ["etc/masked", "etc/below/masked", "etc/hidden/x"] {
            fs::write(root.join(file), "to be hidden\n").expect("new");
        }
        let _ = fs::remove_dir_all(root.join("dev"));
        fs::create_dir(root.join("dev")).expect("new");
        symlink(target, root.join("dev/null")).expect("new");
        let said = stays_inside(target, || bundle.run("one"));
        if said.status != 125 {
            assert!(!said.out.contains("to be hidden"), "{}", said.out);
            assert_eq!(
                said.out.matches("character special file 1:3\n").count(),
                2,
                "{}{}",
                said.out,
                said.err
            );
        }
        if who == Who::Root {
            assert!(said.status == 125 && said.err.contains("/dev/null"), "{}{}", said.out, said.err);
        }
        // With a /dev of its own nothing of the image's is asked.
        let bundle = bundle.mount("tmpfs", "/dev", "tmpfs", &["nosuid", "mode=755"]);
        let said = stays_inside(target, || bundle.run("one"));
        assert_eq!(said.out.matches("character special file 1:3\n").count(), 2, "{}{}", said.out, said.err);
        assert!(!said.out.contains("to be hidden"), "{}", said.out);
    }
    // A file in the place of a device.
    let bundle = Bundle::sh(who, "b", "true").own_rootfs().without_mount("/dev");
    let bundle = bundle.without_mount("/dev/pts").without_mount("/dev/shm").without_mount("/dev/mqueue");
    let _ = fs::remove_dir_all(bundle.rootfs().join("dev"));
    fs::create_dir(bundle.rootfs().join("dev")).expect("new");
    fs::write(bundle.rootfs().join("dev/zero"), "mine").expect("new");
    let said = stays_inside("a file for a device", || bundle.run("one"));
    if who == Who::Root {
        said.bad(125, "something else is there");
    }
    assert_eq!(fs::read(bundle.rootfs().join("dev/zero")).expect("there"), b"mine");
}

/// /dev/console, or the terminal's own name, was a link of the image's, and the terminal was mounted over what it led to before
/// anything was hidden.
fn cve_2025_52565(who: Who) {
    for target in [
        "/proc/sys/kernel/core_pattern",
        "../../../../../tmp/outside/secret",
        "/proc/self/attr/exec",
        "/tmp/outside/new",
    ] {
        let bundle = Bundle::sh(who, "a", "cat /proc/self/mountinfo; stat -c %F /dev/console").own_rootfs();
        let bundle = bundle.without_mount("/dev").set("/process/terminal", json!(true));
        let dev = bundle.rootfs().join("dev");
        let _ = fs::remove_dir_all(&dev);
        for name in ["", "pts", "shm", "mqueue"] {
            fs::create_dir(dev.join(name)).expect("new");
        }
        symlink(target, dev.join("console")).expect("new");
        let said = stays_inside(target, || bundle.run("one"));
        for line in said.out.lines().filter(|line| line.contains("devpts")) {
            let point = line.split(' ').nth(4).unwrap_or_default();
            assert!(["/dev/pts", "/dev/console"].contains(&point), "{target}: {line}");
        }
        fs::remove_dir_all(bundle.rootfs()).expect("ours");
    }
}

/// What the runtime writes into /proc, a sysctl or a label, went into another file, which was mounted there (youki's CVE-2025-62596). Here
/// a sysctl is written to the kernel's own file of that name, in the container's own /proc, or not at all.
fn cve_2025_52881(who: Who) {
    let sysctl = json!({"net.ipv4.ip_forward": "1"});
    let ttl = "/proc/sys/net/ipv4/ip_default_ttl"; // the lab's own: no harm is done if it goes wrong
    // Over the file, and over a directory on the way.
    for (source, destination) in [
        (ttl, "/proc/sys/net/ipv4/ip_forward"),
        ("/proc/sys/net/ipv4/conf/all", "/proc/sys/net/ipv4"),
        ("/proc/sys/net", "/proc/sys/net"),
        ("/proc/sys", "/proc/sys"),
    ] {
        let bundle = Bundle::sh(who, "a", "cat /proc/sys/net/ipv4/ip_forward")
            .mount(source, destination, "bind", &["rbind"])
            .set("/linux/sysctl", sysctl.clone())
            .set("/linux/readonlyPaths", json!([]));
        let forward = fs::read_to_string("/proc/sys/net/ipv4/ip_forward").expect("readable");
        let said = stays_inside(destination, || bundle.run("one"));
        assert_eq!(
            fs::read_to_string("/proc/sys/net/ipv4/ip_forward").expect("readable"),
            forward,
            "{destination}"
        );
        assert_eq!(said.status, 125, "{source} on {destination}: {}{}", said.out, said.err);
    }
    // A tmpfs over it, with links.
    let bundle = Bundle::sh(who, "a", "true")
        .mount("tmpfs", "/proc/sys", "tmpfs", &[])
        .set("/linux/sysctl", sysctl.clone());
    assert_eq!(stays_inside("a tmpfs", || bundle.run("one")).status, 125);
    let bundle = Bundle::sh(who, "a", "cat /proc/sys/net/ipv4/ip_forward").set("/linux/sysctl", sysctl);
    assert_eq!(stays_inside("as it should be", || bundle.run("one").good()).out, "1\n");
}

/// crun wrote a file of its own into the image's root, through a link. This runtime writes no file there.
fn cve_2025_24965(who: Who) {
    let bundle = Bundle::sh(who, "a", "true").own_rootfs();
    for name in
        [".krun_config.json", ".krun_vm.json", "etc/hostname", "etc/hosts", "etc/resolv.conf", "etc/mtab"]
    {
        let place = bundle.rootfs().join(name);
        let _ = fs::remove_file(&place);
        symlink("/tmp/outside/made", &place).expect("new");
    }
    stays_inside("links in the image", || bundle.run("one").good());
}

/// The container's list of users is read to find a home. It may be a pipe that nobody writes to, a device without an end, a link to
/// nowhere: the container is started all the same, and soon.
fn users_that_take_for_ever_to_read(who: Who) {
    for kind in ["pipe", "endless", "link", "directory", "large"] {
        let bundle = Bundle::sh(who, kind, "echo $HOME").own_rootfs();
        let file = bundle.rootfs().join("etc/passwd");
        let _ = fs::remove_file(&file);
        match kind {
            "pipe" => nix::unistd::mkfifo(&file, nix::sys::stat::Mode::all()).expect("new"),
            "endless" => symlink("/dev/zero", &file).expect("new"),
            "link" => symlink("/tmp/outside/secret", &file).expect("new"),
            "directory" => fs::create_dir(&file).expect("new"),
            _ => fs::File::create(&file).and_then(|file| file.set_len(1 << 33)).expect("new"),
        }
        let mut line = bundle.command("run", &[], "one");
        line.stdout(std::process::Stdio::piped());
        let mut child = line.spawn().expect("it starts");
        let mut status = None;
        let begun = std::time::Instant::now();
        eventually("its end", || {
            status = child.try_wait().expect("our child");
            status.is_some() || begun.elapsed() > Duration::from_secs(10)
        });
        if status.is_none() {
            let _ = child.kill();
            let _ = child.wait();
            let _ = oci(who, &["delete", "--force", "one"]);
            panic!("{kind}: it does not start");
        }
        let mut said = String::new();
        std::io::Read::read_to_string(&mut child.stdout.take().expect("piped"), &mut said).expect("text");
        assert_eq!(said, "/\n", "{kind}");
    }
    assert!(fs::metadata(ROOTFS).is_ok_and(|found| !found.file_type().is_fifo() && found.nlink() > 0));
}
