//! Chapter 8: users of its own, seen from inside and from outside.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use cooperage::workshop::rootfs::{self, Rootfs};
use nix::mount::{MsFlags, mount};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;

use crate::mounts::directory;
use crate::support::run::{Ended, Host, NOBODY, Running, as_who, chapter, eventually, in_etc, run, says, sh};
use crate::support::sweep::{LESS_POWER, OWN_USERS, since};
use crate::support::{ANOTHER_USER, BOTH, Case, ROOT, ROOT_ITSELF, USER, Who, binary};

pub fn cases() -> Vec<Case> {
    const IDMAP: &[&str] = &[ROOT_ITSELF, "idmap-tmpfs"];
    const OWN: &[&str] = &[ROOT_ITSELF];
    const SUBORDINATE: &[&str] = &[ANOTHER_USER, ROOT_ITSELF, "program-newuidmap", "program-newgidmap"];
    vec![
        Case::new("root_is_nobody_outside", ROOT, root_is_nobody_outside).needs(OWN),
        Case::new("no_two_containers_share_a_user", ROOT, no_two_containers_share_a_user).needs(OWN),
        Case::new("range_of_the_dead_is_free_again", ROOT, range_of_the_dead_is_free_again).needs(OWN),
        Case::new("ranges_come_from_subuid", ROOT, ranges_come_from_subuid).needs(OWN),
        Case::new("rootfs_keeps_its_owners", ROOT, rootfs_keeps_its_owners).needs(IDMAP),
        Case::new("upper_belongs_to_whoever_started_it", ROOT, upper_belongs_to_whoever_started_it)
            .needs(IDMAP),
        Case::new("filesystem_without_idmapped_mounts", ROOT, filesystem_without_idmapped_mounts)
            .needs(IDMAP),
        Case::new("volume_with_mapped_owners", ROOT, volume_with_mapped_owners).needs(IDMAP),
        Case::new("volume_without_mapped_owners", ROOT, volume_without_mapped_owners).needs(IDMAP),
        Case::new("set_user_id_is_not_planted", ROOT, set_user_id_is_not_planted).needs(OWN),
        Case::new("volume_of_the_starters_own", USER, volume_of_the_starters_own),
        Case::new("mounts_from_outside_are_locked", BOTH, mounts_from_outside_are_locked),
        Case::new("set_user_id_works_inside", ROOT, set_user_id_works_inside).needs(IDMAP),
        Case::new("user_is_found_in_the_containers_files", ROOT, user_is_found_in_the_containers_files)
            .needs(IDMAP),
        Case::new("hostile_passwd", BOTH, hostile_passwd),
        Case::new("user_out_of_range", BOTH, user_out_of_range),
        Case::new("host_users", BOTH, host_users),
        Case::new("dies_with_the_runtime_as_another_user", ROOT, dies_with_the_runtime).needs(OWN),
        Case::new("keys_are_left_behind", ROOT, keys_are_left_behind).needs(OWN),
        Case::new("range_of_an_ordinary_user", USER, range_of_an_ordinary_user).needs(SUBORDINATE),
        Case::new("range_that_newuidmap_refuses", USER, range_that_newuidmap_refuses).needs(SUBORDINATE),
        Case::new("oneself_alone", USER, oneself_alone),
        Case::new("v2_cgroup_is_delegated", ROOT, v2_cgroup_is_delegated).needs(&[
            ROOT_ITSELF,
            "cgroup-v2",
            "cgroup-pids",
        ]),
    ]
}

const NONE: [&str; 2] = ["--network", "none"];

/// What gives a container the power that chapter 8 leaves it.
fn all_power(number: u32) -> &'static [&'static str] {
    if number >= LESS_POWER { &["--privileged"] } else { &[] }
}

fn quick<'a>(options: &[&'a str]) -> Vec<&'a str> {
    [&NONE[..], options].concat()
}

/// Whom the users of this container are outside: the second column of its map's first line.
fn first_user(running: &Running) -> u32 {
    let map = fs::read_to_string(format!("/proc/{}/uid_map", running.first())).expect("it lives");
    map.split_whitespace().nth(1).and_then(|word| word.parse().ok()).expect("a map")
}

fn root_is_nobody_outside(who: Who) {
    for number in since(OWN_USERS) {
        let running = Running::start(number, who, &[], "id -u; id -g; touch /made");
        let outside = fs::metadata(format!("/proc/{}", running.first())).expect("it lives");
        // init is not dumpable, and such a process shows as root's. Its status tells who it is.
        let status = fs::read_to_string(format!("/proc/{}/status", running.first())).expect("it lives");
        let first = first_user(&running);
        assert!(first >= 65536, "user 0 is {first} outside ({})", outside.uid());
        for line in ["Uid:", "Gid:"] {
            let numbers = status.lines().find_map(|text| text.strip_prefix(line)).expect("a line");
            assert!(numbers.split_whitespace().all(|number| number == first.to_string()), "{line}{numbers}");
        }
        let maps = ["uid_map", "gid_map"].map(|map| {
            let text = fs::read_to_string(format!("/proc/{}/{map}", running.first())).expect("it lives");
            text.split_whitespace().map(str::to_string).collect::<Vec<_>>()
        });
        assert_eq!(maps[0], ["0", &first.to_string(), "65536"]);
        assert_eq!(maps[0], maps[1]);
        running.end();
        assert_eq!(says(number, who, &NONE, "cat /proc/self/setgroups; id -G"), "allow\n0\n");
    }
}

fn no_two_containers_share_a_user(who: Who) {
    let before = Host::now();
    for number in since(OWN_USERS) {
        let running: Vec<Running> = (0..4).map(|_| Running::start(number, who, &NONE, "")).collect();
        let mut firsts: Vec<u32> = running.iter().map(first_user).collect();
        firsts.sort_unstable();
        assert!(firsts.windows(2).all(|pair| pair[1] - pair[0] >= 65536), "{firsts:?}");
        running.into_iter().for_each(|running| drop(running.end()));
    }
    Host::now().must_be(&before, "four containers");
}

fn range_of_the_dead_is_free_again(who: Who) {
    in_etc("subuid", "root:300000:65536\n");
    in_etc("subgid", "root:400000:65536\n");
    for number in since(OWN_USERS) {
        for _ in 0..3 {
            let running = Running::start(number, who, &NONE, "");
            assert_eq!(first_user(&running), 300_000);
            let gids = fs::read_to_string(format!("/proc/{}/gid_map", running.first())).expect("it lives");
            assert_eq!(gids.split_whitespace().nth(1), Some("400000"));
            // There is no second.
            let ended = sh(number, who, &NONE, "true");
            assert_eq!(ended.status, 125);
            assert!(ended.err.contains("/etc/subuid"), "it says which setting: {}", ended.err);
            running.signal(Signal::SIGKILL);
        }
        says(number, who, &NONE, "true");
    }
    let left: Vec<PathBuf> =
        Host::now().files.into_iter().filter(|path| path.starts_with("/run/cooperage")).collect();
    assert_eq!(left, Vec::<PathBuf>::new());
}

fn ranges_come_from_subuid(who: Who) {
    let first = |number| {
        let running = Running::start(number, who, &NONE, "");
        let first = first_user(&running);
        running.end();
        first
    };
    for number in since(OWN_USERS) {
        in_etc("subuid", "alice:100000:65536\ncooperage:600000:131072\n");
        in_etc("subgid", "");
        assert_eq!(first(number), 600_000);
        // Who has the region's first numbers already is left in peace.
        in_etc("subuid", "alice:1879048200:10\n");
        assert_eq!(first(number), 1_879_048_192 + 65536);
        in_etc("subuid", "root:600000:65535\n");
        let ended = sh(number, who, &NONE, "true");
        assert_eq!(ended.status, 125);
        assert!(ended.err.contains("fewer than 65536 users"), "{}", ended.err);
    }
}

fn owners(path: impl AsRef<Path>) -> (u32, u32) {
    let found = fs::symlink_metadata(path).expect("it is there");
    (found.uid(), found.gid())
}

/// A root filesystem of our own, on the lab's tmpfs.
fn own_rootfs() -> PathBuf {
    let rootfs = PathBuf::from("/tmp/rootfs");
    let machines = Rootfs::find(None).expect("this machine's programs");
    rootfs::copy(machines.path(), &rootfs).expect("writable");
    rootfs
}

fn rootfs_keeps_its_owners(who: Who) {
    let rootfs = own_rootfs();
    fs::write(rootfs.join("etc/of-33"), "text").expect("writable");
    chown(rootfs.join("etc/of-33"), Some(33), Some(44)).expect("root may");
    let rootfs_option = rootfs.display().to_string();
    for number in since(OWN_USERS) {
        let options = quick(&["--rootfs", &rootfs_option]);
        let script = "stat -c '%u %g' /etc /etc/of-33 /bin/sh; echo x > /etc/of-33; chown 7:8 /etc/of-33; \
                      rm /etc/passwd; mkdir /etc/new; stat -c '%u %g' /etc/of-33";
        assert_eq!(says(number, who, &options, script), "0 0\n33 44\n0 0\n7 8\n", "chapter {number}");
        assert_eq!(owners(rootfs.join("etc/of-33")), (33, 44));
        assert_eq!(fs::read_to_string(rootfs.join("etc/of-33")).expect("readable"), "text");
        assert!(rootfs.join("etc/passwd").exists() && !rootfs.join("etc/new").exists());
    }
}

fn upper_belongs_to_whoever_started_it(who: Who) {
    for number in since(OWN_USERS) {
        let options = quick(&["--upper", "/tmp/upper"]);
        says(number, who, &options, "echo one > /root/a; echo b > /b; chown 5:6 /b; rm -r /opt; mkdir /opt");
        assert_eq!(owners("/tmp/upper/root/a"), (0, 0));
        assert_eq!(owners("/tmp/upper/b"), (5, 6));
        // Somebody else has the range now.
        let other = Running::start(number, who, &NONE, "");
        assert_eq!(
            says(number, who, &options, "cat /root/a; stat -c '%u %g' /root/a /b; ls /opt"),
            "one\n0 0\n5 6\n"
        );
        other.end();
        fs::remove_dir_all("/tmp/upper").expect("removable");
    }
    let left: Vec<PathBuf> =
        Host::now().files.into_iter().filter(|path| path.starts_with("/tmp/.upper")).collect();
    assert_eq!(left, Vec::<PathBuf>::new(), "overlay's work directory");
}

/// An overlay can have no id-mapped mount, and is what root has in a container of Docker's.
fn filesystem_without_idmapped_mounts(who: Who) {
    let lower = own_rootfs();
    fs::set_permissions(lower.join("bin/busybox"), Permissions::from_mode(0o4755)).ok();
    chown(lower.join("home"), Some(33), Some(44)).expect("root may");
    for name in ["upper", "work", "merged"] {
        fs::create_dir(format!("/tmp/{name}")).expect("writable");
    }
    let data = "lowerdir=/tmp/rootfs,upperdir=/tmp/upper,workdir=/tmp/work";
    mount(Some("overlay"), "/tmp/merged", Some("overlay"), MsFlags::empty(), Some(data)).expect("overlay");
    let before = Host::now();
    for number in since(OWN_USERS) {
        let options = quick(&["--rootfs", "/tmp/merged"]);
        let script = "id -u; stat -c '%u %g' /etc /home; echo x > /etc/x; chown 7 /etc/x; cat /etc/x";
        assert_eq!(says(number, who, &options, script), "0\n0 0\n33 44\nx\n", "chapter {number}");
        let told = run(chapter(number, who).args(&options).args(["--explain", "--", "true"]));
        assert!(told.err.contains("has no id-mapped mounts: copying"), "{}", told.err);
        assert_eq!(owners("/tmp/merged/home"), (33, 44), "nothing is changed where it is");
        for option in [["-v", "/tmp/merged:/x:ro,idmap"], ["--upper", "/tmp/merged/upper"]] {
            let ended = run(chapter(number, who).args(quick(&option)).args(["--", "true"]));
            assert_eq!(ended.status, 125, "{option:?}");
            assert!(
                ended.err.contains("no id-mapped mounts") && ended.err.contains("EINVAL"),
                "{}",
                ended.err
            );
        }
        fs::remove_dir("/tmp/merged/upper").ok();
        says(number, who, &quick(&["--rootfs", "/tmp/merged", "--userns", "host"]), "touch /etc/y");
    }
    let mut now = Host::now();
    now.files.retain(|path| !path.starts_with("/tmp/upper") && !path.starts_with("/tmp/work"));
    let mut then = before;
    then.files.retain(|path| !path.starts_with("/tmp/upper") && !path.starts_with("/tmp/work"));
    now.must_be(&then, "copied root filesystems");
}

/// A directory where no other user of the host can go.
fn closed_directory() -> &'static str {
    fs::create_dir_all("/tmp/closed/volume").expect("writable");
    fs::set_permissions("/tmp/closed", Permissions::from_mode(0o700)).expect("root may");
    "/tmp/closed/volume"
}

fn volume_with_mapped_owners(who: Who) {
    let volume = closed_directory();
    fs::write(format!("{volume}/of-33"), "text\n").expect("writable");
    chown(format!("{volume}/of-33"), Some(33), Some(44)).expect("root may");
    for number in since(OWN_USERS) {
        let (writable, read_only) = (format!("{volume}:/v:idmap"), format!("{volume}:/v:ro,idmap"));
        let script = "stat -c '%u %g' /v /v/of-33; cat /v/of-33; echo new > /v/new; chown 1000:7 /v/new";
        assert_eq!(says(number, who, &quick(&["-v", &writable]), script), "0 0\n33 44\ntext\n");
        assert_eq!(owners(format!("{volume}/new")), (1000, 7));
        assert_eq!(owners(format!("{volume}/of-33")), (33, 44));
        fs::remove_file(format!("{volume}/new")).expect("removable");
        let ended = sh(number, who, &quick(&["-v", &read_only]), "cat /v/of-33; echo x > /v/x");
        assert!(ended.out == "text\n" && ended.err.contains("Read-only file system"), "{}", ended.err);
        // One file.
        let file = format!("{volume}/of-33:/file:idmap");
        assert_eq!(says(number, who, &quick(&["-v", &file]), "stat -c '%u %g' /file"), "33 44\n");
    }
}

/// The volume's files belong to whom they belong outside, and that is nobody inside.
fn volume_without_mapped_owners(who: Who) {
    let volume = closed_directory();
    fs::write(format!("{volume}/secret"), "text\n").expect("writable");
    fs::set_permissions(format!("{volume}/secret"), Permissions::from_mode(0o600)).expect("root may");
    fs::set_permissions(volume, Permissions::from_mode(0o777)).expect("root may");
    for number in since(OWN_USERS) {
        let option = format!("{volume}:/v");
        // It can be found at all, although the container's users could not go through /tmp/closed.
        let ended = sh(
            number,
            who,
            &quick(&["-v", &option]),
            "stat -c '%u %g' /v/secret; echo x > /v/mine; cat /v/secret",
        );
        assert_eq!(ended.out, "65534 65534\n");
        assert!(ended.err.contains("Permission denied"), "{}", ended.err);
        let (uid, _) = owners(format!("{volume}/mine"));
        assert!(uid >= 65536, "what the container writes belongs to {uid}");
        fs::remove_file(format!("{volume}/mine")).expect("removable");
    }
}

fn set_user_id_is_not_planted(who: Who) {
    fs::create_dir("/tmp/open").expect("writable");
    let closed = closed_directory();
    fs::create_dir("/tmp/nosuid").expect("writable");
    mount(Some("tmpfs"), "/tmp/nosuid", Some("tmpfs"), MsFlags::MS_NOSUID, None::<&str>).expect("mount");
    fs::create_dir("/tmp/nosuid/v").expect("writable");
    for number in since(OWN_USERS) {
        let ended = sh(number, who, &quick(&["-v", "/tmp/open:/v:idmap"]), "true");
        assert_eq!(ended.status, 125);
        assert!(ended.err.contains("set-user-ID") && ended.err.contains("/tmp/open"), "{}", ended.err);
        for option in ["/tmp/open:/v:ro,idmap", "/tmp/open:/v:idmap,suid", "/tmp/nosuid/v:/v:idmap"] {
            says(number, who, &quick(&["-v", option]), "true");
        }
        // A directory of somebody else's is no protection from that somebody.
        chown("/tmp/closed", Some(1000), Some(1000)).expect("root may");
        let option = format!("{closed}:/v:idmap");
        assert_eq!(sh(number, who, &quick(&["-v", &option]), "true").status, 125);
        chown("/tmp/closed", Some(0), Some(0)).expect("root may");
        says(number, who, &quick(&["-v", &option]), "true");
        // Through a link it is where the link leads.
        symlink("/tmp/open", "/tmp/closed/link").ok();
        assert_eq!(sh(number, who, &quick(&["-v", "/tmp/closed/link:/v:idmap"]), "true").status, 125);
    }
}

/// An ordinary user's files belong to the container's root, who is that user: with idmap and without.
fn volume_of_the_starters_own(who: Who) {
    directory("/tmp/data", who);
    for number in since(OWN_USERS) {
        for option in ["/tmp/data:/v", "/tmp/data:/v:idmap"] {
            let said =
                says(number, who, &quick(&["-v", option]), "echo x > /v/x; stat -c '%u %g' /v /v/x; rm /v/x");
            assert_eq!(said, "0 0\n0 0\n", "{option}");
        }
    }
}

/// What the runtime has laid out cannot be taken apart, nor made writable.
fn mounts_from_outside_are_locked(who: Who) {
    directory("/tmp/data/covered", who);
    fs::write("/tmp/data/covered/secret", "x").expect("writable");
    mount(Some("cover"), "/tmp/data/covered", Some("tmpfs"), MsFlags::empty(), None::<&str>).expect("mount");
    for number in since(OWN_USERS) {
        let script = "umount /v/covered; umount -l /v/covered; mount -o remount,bind,rw /v; echo x > /v/x; ls /v/covered";
        let options = [all_power(number), &quick(&["-v", "/tmp/data:/v:ro"])].concat();
        let ended = sh(number, who, &options, script);
        assert_eq!(ended.out, "", "chapter {number}");
        assert!(!Path::new("/tmp/data/x").exists());
        // With the host's users nothing is locked, as in the chapters before.
        let script = "umount -l /v/covered && cat /v/covered/secret";
        let options = [all_power(number), &quick(&["--userns", "host", "-v", "/tmp/data:/v:ro"])].concat();
        let opened = sh(number, who, &options, script);
        assert_eq!(opened.out == "x", who == Who::Root, "{}{}", opened.out, opened.err);
    }
}

/// The bit is honoured for the container's own users, in its own root filesystem.
fn set_user_id_works_inside(who: Who) {
    for number in since(OWN_USERS) {
        let script = "cp $(command -v witness) /w && chmod 4755 /w";
        says(number, who, &quick(&["--upper", "/tmp/upper"]), script);
        let options = quick(&["--upper", "/tmp/upper", "--user", "1000:1000"]);
        let options = [all_power(number), &options].concat();
        let ids = says(number, who, &options, "/w ids");
        assert!(ids.contains("\"uid\": 1000") && ids.contains("\"euid\": 0"), "{ids}");
        fs::remove_dir_all("/tmp/upper").expect("removable");
    }
}

const PASSWD: &str = "root:x:0:0::/root:/bin/sh\nweb:x:33:34::/srv/web:/bin/sh\n";
const GROUP: &str = "root:x:0:\nweb:x:34:\nlog:x:4:web\nadm:x:9:other,web\n";

fn rootfs_with(who: Who, passwd: &str, group: &str) -> PathBuf {
    let rootfs = PathBuf::from("/tmp/rootfs");
    if !rootfs.exists() {
        own_rootfs();
        let owner = if who == Who::User && crate::support::run::real_root() { NOBODY } else { 0 };
        let chowned =
            Command::new("chown").args(["-Rh", &format!("{owner}:{owner}"), "/tmp/rootfs"]).status();
        assert!(chowned.expect("chown").success());
    }
    for (name, text) in [("passwd", passwd), ("group", group)] {
        let path = rootfs.join("etc").join(name);
        fs::remove_file(&path).ok();
        fs::write(path, text).expect("writable");
    }
    rootfs
}

fn user_is_found_in_the_containers_files(who: Who) {
    let rootfs = rootfs_with(who, PASSWD, GROUP).display().to_string();
    let whoami = "echo $(id -u) $(id -g) $(id -G) $HOME; grep CapEff /proc/self/status | cut -f2";
    let no = "0000000000000000";
    for number in since(OWN_USERS) {
        for (options, expected) in [
            (&["--user", "web"][..], format!("33 34 34 4 9 /srv/web\n{no}\n")),
            (&["-u", "33"], format!("33 34 34 4 9 /srv/web\n{no}\n")),
            (&["-u", "web:log"], format!("33 4 4 /srv/web\n{no}\n")),
            (&["-u", "1234"], format!("1234 0 0 /\n{no}\n")),
            (&["-u", "1234:web"], format!("1234 34 34 /\n{no}\n")),
            (
                &["-u", "web", "--group-add", "77", "--group-add", "log"],
                format!("33 34 34 4 9 77 /srv/web\n{no}\n"),
            ),
            (&["-u", "65535:65535"], format!("65535 65535 65535 /\n{no}\n")),
        ] {
            for init in [&[][..], &["--no-init"]] {
                let options = [&NONE[..], &["--rootfs", &rootfs], options, init].concat();
                assert_eq!(says(number, who, &options, whoami), expected, "{options:?}");
            }
        }
        let options = quick(&["--rootfs", &rootfs, "--group-add", "log"]);
        assert_eq!(says(number, who, &options, "echo $(id -u) $(id -g) $(id -G) $HOME"), "0 0 0 4 /root\n");
    }
}

fn fails(number: u32, who: Who, options: &[&str]) -> Ended {
    let ended = run(chapter(number, who).args(quick(options)).args(["--", "sh", "-c", "echo it ran"]));
    assert_eq!((ended.status, ended.out.as_str()), (125, ""), "{options:?}: {}", ended.err);
    ended
}

fn hostile_passwd(who: Who) {
    let rootfs = rootfs_with(who, PASSWD, GROUP);
    let option = rootfs.display().to_string();
    let before = Host::now();
    let (passwd, group) = (rootfs.join("etc/passwd"), rootfs.join("etc/group"));
    for number in since(OWN_USERS) {
        let failure = |what: &str, says: &str| {
            let ended = fails(number, who, &["--rootfs", &option, "--user", "web"]);
            assert!(ended.err.contains(says), "{what}: {}", ended.err);
        };
        // A link that leads out: the host's file has such a user, the container's has not.
        fs::write("/tmp/hosts-passwd", "web:x:0:0::/:/bin/sh\n").expect("writable");
        fs::remove_file(&passwd).expect("removable");
        symlink("/tmp/hosts-passwd", &passwd).expect("writable");
        failure("a link", "no /etc/passwd");
        symlink("../../../../../../tmp/hosts-passwd", rootfs.join("etc/other")).expect("writable");
        fs::rename(rootfs.join("etc/other"), &passwd).expect("writable");
        failure("a link upwards", "no /etc/passwd");
        for link in ["/proc/1/environ", "/dev/zero", "/proc/self/fd/0"] {
            fs::remove_file(&passwd).expect("removable");
            symlink(link, &passwd).expect("writable");
            fails(number, who, &["--rootfs", &option, "--user", "web"]);
        }
        fs::remove_file(&passwd).expect("removable");
        nix::unistd::mkfifo(&passwd, Mode::from_bits_truncate(0o644)).expect("writable");
        failure("a FIFO", "is not a file");
        fs::remove_file(&passwd).expect("removable");
        fs::create_dir(&passwd).expect("writable");
        failure("a directory", "is not a file");
        fs::remove_dir(&passwd).expect("removable");
        for (text, says) in [
            ("web:x:0x0:0::/:/bin/sh\n".to_string(), "is no number"),
            ("web:x::0::/:/bin/sh\n".to_string(), "is no number"),
            ("web:x:33:0\n".to_string(), "4 fields"),
            ("web:x:33:zero::/:/bin/sh\n".to_string(), "its group is no number"),
            (format!("a:x:1:1:{}:/:/bin/sh\n{PASSWD}", "x".repeat(100_000)), "longer than 16 KiB"),
            (format!("{}{PASSWD}", "# padding\n".repeat(200_000)), "larger than 1 MiB"),
        ] {
            fs::write(&passwd, text).expect("writable");
            failure(says, says);
        }
        fs::write(&passwd, PASSWD).expect("writable");
        fs::write(&group, "log:x:4\n").expect("writable");
        failure("a broken group", "line 1 of the container's /etc/group");
        fs::write(&group, GROUP).expect("writable");
        fs::remove_file(&passwd).expect("removable");
        failure("none at all", "no /etc/passwd");
        let number_alone = quick(&["--rootfs", &option, "--user", "0:0"]);
        assert_eq!(says_of(number, who, &number_alone), "0 0 /\n");
        fs::write(&passwd, PASSWD).expect("writable");
    }
    fs::remove_file("/tmp/hosts-passwd").expect("removable");
    Host::now().must_be(&before, "hostile files");
}

fn says_of(number: u32, who: Who, options: &[&str]) -> String {
    says(number, who, options, "echo $(id -u) $(id -g) $HOME")
}

fn user_out_of_range(who: Who) {
    run(chapter(1, who).args(["--", "true"])); // makes the rootfs
    let before = Host::now();
    for number in since(OWN_USERS) {
        for (options, word) in [
            (&["--user", "65536"][..], "user 65536 is out of range"),
            (&["--user", "0:65536"], "group 65536 is out of range"),
            (&["--group-add", "4294967294"], "group 4294967294 is out of range"),
            (&["--user", "no-such-user"], "is not in the container's /etc/passwd"),
        ] {
            let ended = fails(number, who, options);
            assert!(ended.err.contains(word), "{options:?}: {}", ended.err);
        }
        for bad in ["", ":", "1:", "a:b:c", "4294967295"] {
            let ended = run(chapter(number, who).args(["--user", bad, "--", "true"]));
            assert_eq!(ended.status, 2, "{bad:?}: {}", ended.err);
        }
    }
    Host::now().must_be(&before, "users that cannot be");
}

fn host_users(who: Who) {
    for number in since(OWN_USERS) {
        let running = Running::start(number, who, &quick(&["--userns", "host"]), "");
        let map = |pid| fs::read_to_string(format!("/proc/{pid}/uid_map")).expect("it lives");
        assert_eq!(map(running.first()), map(running.runtime()));
        running.end();
        let ended = run(chapter(number, who).args(["--userns", "other", "--", "true"]));
        assert_eq!(ended.status, 2);
    }
}

/// The kernel forgets whose death is one's own when a process changes its user.
fn dies_with_the_runtime(who: Who) {
    for number in since(OWN_USERS) {
        for options in [&[][..], &["--user", "1000"], &["--user", "1000", "--no-init"]] {
            let running = Running::start(number, who, &quick(options), "");
            let first = running.first();
            running.signal(Signal::SIGKILL);
            eventually("the end of the container", || !Path::new(&format!("/proc/{first}")).exists());
        }
    }
}

/// A key of whoever started it, in the session keyring.
fn keys_are_left_behind(who: Who) {
    let add = || {
        // SAFETY: strings that end with a zero byte, and numbers.
        unsafe {
            let joined = libc::syscall(libc::SYS_keyctl, 1, std::ptr::null::<u8>(), 0, 0, 0);
            let (kind, name, text) = (c"user".as_ptr(), c"starters-key".as_ptr(), c"secret".as_ptr());
            let key = libc::syscall(libc::SYS_add_key, kind, name, text, 6, -3);
            (joined, key)
        }
    };
    if add().1 < 0 {
        return; // a kernel without keys has none to leave behind
    }
    let keys = "cat /proc/keys | grep -c starters-key || true";
    for number in since(OWN_USERS) {
        assert_eq!(says(OWN_USERS - 1, who, &NONE, keys), "1\n", "the chapters before show it");
        assert_eq!(says(number, who, &NONE, keys), "0\n");
    }
}

/// A user's containers with a range, by newuidmap: the lab's own /etc/subuid.
fn range_of_an_ordinary_user(who: Who) {
    in_etc("subuid", "nobody:200000:65536\n");
    in_etc("subgid", "65534:300000:65536\n");
    directory("/tmp/data", who);
    for number in since(OWN_USERS) {
        let running = Running::start(number, who, &[], "");
        let map = fs::read_to_string(format!("/proc/{}/uid_map", running.runtime())).expect("it lives");
        let numbers: Vec<&str> = map.split_whitespace().collect();
        assert_eq!(numbers, ["0", "65534", "1", "1", "200000", "65536"]);
        // A second one joins the first one's namespace, and has one of its own below it.
        let options = ["-v", "/tmp/data:/v"];
        let said = says(
            number,
            who,
            &options,
            "cat /proc/self/uid_map | wc -l; cat /proc/self/setgroups; touch /v/x /v/y; chown 1000:1000 /v/y",
        );
        assert_eq!(said.split_whitespace().collect::<Vec<_>>(), ["2", "allow"]);
        assert_eq!((owners("/tmp/data/x"), owners("/tmp/data/y")), ((65534, 65534), (200_999, 300_999)));
        assert_eq!(
            says(number, who, &["--user", "1000:5", "--group-add", "6"], "echo $(id -u) $(id -G)"),
            "1000 5 6\n"
        );
        running.end();
        for name in ["x", "y"] {
            fs::remove_file(format!("/tmp/data/{name}")).expect("removable");
        }
        // The chapters before have oneself alone, as ever.
        assert_eq!(says(OWN_USERS - 1, who, &NONE, "cat /proc/self/uid_map | wc -l").trim(), "1");
    }
}

/// newuidmap is there, but has not the right: then it is oneself alone, and the container runs.
fn range_that_newuidmap_refuses(who: Who) {
    in_etc("subuid", "nobody:200000:65536\n");
    in_etc("subgid", "nobody:200000:65536\n");
    fs::create_dir("/tmp/programs").expect("writable");
    for name in ["newuidmap", "newgidmap"] {
        let copied =
            Command::new("sh").args(["-c", &format!("cp $(command -v {name}) /tmp/programs/")]).status();
        assert!(copied.expect("sh").success());
    }
    let path = format!("/tmp/programs:{}", std::env::var("PATH").unwrap_or_default());
    for number in since(OWN_USERS) {
        let mut command = chapter(number, who);
        command.env("PATH", &path).args(NONE).args(["--", "sh", "-c", "cat /proc/self/uid_map | wc -l"]);
        let ended = run(&mut command);
        assert_eq!((ended.status, ended.out.trim(), ended.err.as_str()), (0, "1", ""));
        let mut command = chapter(number, who);
        command.env("PATH", &path).args(NONE).args(["--explain", "--", "true"]);
        let told = run(&mut command).err;
        assert!(told.contains("one user only, oneself"), "{told}");
    }
}

fn oneself_alone(who: Who) {
    for number in since(OWN_USERS) {
        let said = says(number, who, &NONE, "cat /proc/self/uid_map /proc/self/setgroups; id -u");
        assert_eq!(said.split_whitespace().collect::<Vec<_>>(), ["0", "0", "1", "deny", "0"]);
        let ended = fails(number, who, &["--user", "1000"]);
        assert!(ended.err.contains("/etc/subuid"), "it says what helps: {}", ended.err);
        let mut command = Command::new(binary(&format!("chapter{number:02}"), who));
        as_who(&mut command, who);
        let told = run(command.args(NONE).args(["--explain", "--", "true"]));
        assert!(told.err.contains("one user only, oneself"), "{}", told.err);
    }
}

/// The container's root may make cgroups below its own, and not touch its own limits.
fn v2_cgroup_is_delegated(who: Who) {
    for number in since(OWN_USERS) {
        let script = "mount -t cgroup2 cgroup2 /mnt && cd /mnt && mkdir leaf && for p in $(cat cgroup.procs); do echo $p > leaf/cgroup.procs; done; \
                      echo +pids > cgroup.subtree_control && mkdir below && echo 5 > below/pids.max && cat below/pids.max; \
                      echo max > pids.max; cat pids.max";
        let options = [all_power(number), &quick(&["--pids-limit", "50"])].concat();
        let ended = sh(number, who, &options, script);
        assert_eq!(ended.out, "5\n50\n", "{}", ended.err);
        assert!(
            ended.err.contains("Permission denied") || ended.err.contains("not permitted"),
            "{}",
            ended.err
        );
    }
}
