//! Chapter 3: mounts, the overlay, volumes, and roots that mean harm.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;

use cooperage::container::mountinfo;
use nix::mount::{MsFlags, mount};

use crate::support::run::{Host, NOBODY, Running, chapter, run, says, sh, volume};
use crate::support::sweep::{LESS_POWER, since};
use crate::support::{BOTH, Case, ROOT, Who, is_snapshot};

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("mounts_are_not_seen_outside", BOTH, mounts_are_not_seen_outside),
        Case::new("shared_propagation_is_cut", ROOT, shared_propagation_is_cut),
        Case::new("rootfs_is_never_written", BOTH, rootfs_is_never_written),
        Case::new("root_has_the_mode_of_the_rootfs", BOTH, root_has_the_mode_of_the_rootfs),
        Case::new("old_root_is_out_of_reach", BOTH, old_root_is_out_of_reach),
        Case::new("what_a_program_expects_to_find", BOTH, what_a_program_expects_to_find),
        Case::new("sys_is_read_only", BOTH, sys_is_read_only),
        Case::new("upper_keeps_what_was_written", BOTH, upper_keeps_what_was_written),
        Case::new("upper_is_used_by_one_at_a_time", BOTH, upper_is_used_by_one_at_a_time),
        Case::new("upper_layer_full", ROOT, upper_layer_full),
        Case::new("volumes", BOTH, volumes),
        Case::new("read_only_volumes_all_the_way_down", BOTH, read_only_volumes_all_the_way_down),
        Case::new("odd_paths", BOTH, odd_paths),
        Case::new("links_in_the_rootfs_lead_nowhere", BOTH, links_in_the_rootfs_lead_nowhere),
    ]
}

/// A directory that belongs to the user who runs the chapters.
pub fn directory(path: impl AsRef<Path>, who: Who) {
    fs::create_dir_all(&path).expect("the lab's /tmp is writable");
    own(path, who);
}

fn own(path: impl AsRef<Path>, who: Who) {
    if who == Who::User && crate::support::run::real_root() {
        chown(&path, Some(NOBODY), Some(NOBODY)).expect("root may");
    }
}

fn mounts_are_not_seen_outside(who: Who) {
    for number in since(3) {
        let before = Host::now().mounts;
        let running =
            Running::start(number, who, &[], "mkdir /m && mount -t tmpfs tmpfs /m && echo x > /m/x");
        assert_eq!(Host::now().mounts, before, "chapter {number}");
        running.end();
    }
}

fn shared_propagation_is_cut(who: Who) {
    // As systemd leaves it on most machines.
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SHARED, None::<&str>)
        .expect("mount");
    mounts_are_not_seen_outside(who);
}

/// A small rootfs of one's own, made by copying the assembled one's programs.
fn own_rootfs(path: &str, who: Who) {
    directory(path, who);
    let all = says(
        3,
        who,
        &["--volume", &format!("{path}:/copy")],
        "cp -a /bin /usr /etc /copy/ 2>/dev/null; [ ! -e /lib ] || cp -a /lib /lib64 /copy/ 2>/dev/null; mkdir -p /copy/proc /copy/sys /copy/tmp; echo ok",
    );
    assert_eq!(all, "ok\n");
}

fn tree(path: &Path, listing: &mut Vec<String>) {
    let mut entries: Vec<_> =
        fs::read_dir(path).expect("readable").flatten().map(|entry| entry.path()).collect();
    entries.sort();
    for path in entries {
        let found = fs::symlink_metadata(&path).expect("it was listed");
        listing.push(format!(
            "{} {:o} {} {}",
            path.display(),
            found.mode(),
            found.size(),
            found.mtime_nsec()
        ));
        if found.is_dir() {
            tree(&path, listing);
        }
    }
}

fn rootfs_is_never_written(who: Who) {
    own_rootfs("/tmp/root", who);
    let mut before = Vec::new();
    tree(Path::new("/tmp/root"), &mut before);
    for number in since(3) {
        let script = "echo new > /etc/new; rm /etc/passwd; echo changed >> /etc/group; chmod 700 /usr; mkdir -p /a/b; [ ! -e /etc/passwd ]";
        says(number, who, &["--rootfs", "/tmp/root"], script);
        let mut after = Vec::new();
        tree(Path::new("/tmp/root"), &mut after);
        assert_eq!(before, after, "chapter {number}");
        assert_eq!(
            says(
                number,
                who,
                &["--rootfs", "/tmp/root"],
                "ls -d /etc/new /a 2>/dev/null; cat /etc/passwd | head -c 4"
            ),
            "root"
        );
    }
}

fn root_has_the_mode_of_the_rootfs(who: Who) {
    own_rootfs("/tmp/root", who);
    for mode in [0o2775, 0o1755, 0o750] {
        fs::set_permissions("/tmp/root", fs::Permissions::from_mode(mode)).expect("its mode can be set");
        assert_eq!(says(3, who, &["--rootfs", "/tmp/root"], "stat -c %a /"), format!("{mode:o}\n"));
    }
}

fn old_root_is_out_of_reach(who: Who) {
    fs::write("/tmp/outside", "the host's").expect("writable");
    for number in since(3) {
        let mounts = says(number, who, &[], "cat /proc/self/mountinfo");
        let mounts = mountinfo::parse(mounts.as_bytes());
        assert!(!mounts.is_empty(), "chapter {number}");
        for mount in &mounts {
            let point = mount.point.to_str().expect("text");
            let known = ["/", "/proc", "/sys", "/dev", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf"];
            let covers = (number >= LESS_POWER).then_some("/proc/");
            let below = ["/dev/", "/sys/"].into_iter().chain(covers);
            assert!(
                known.contains(&point) || below.clone().any(|below| point.starts_with(below)),
                "chapter {number}: {mount}"
            );
        }
        // The classic: chroot again, keep a directory, climb. Then through process 1.
        let script = "mkdir -p /d; for p in /tmp/outside ../../../tmp/outside /proc/1/root/tmp/outside /proc/1/cwd/../tmp/outside; do cat $p 2>/dev/null; done; \
                      chroot /d 2>/dev/null; cd /..; cat tmp/outside 2>/dev/null; umount -l / 2>/dev/null; cat /tmp/outside 2>/dev/null; true";
        assert_eq!(sh(number, who, &[], script).out, "", "chapter {number}");
    }
}

fn what_a_program_expects_to_find(who: Who) {
    let script = "cd /dev; for f in null zero full random urandom tty; do stat -c '%n %F %t:%T %a' $f; done; \
                  for f in fd stdin stdout stderr ptmx; do echo $f $(readlink $f); done; \
                  for d in /dev/pts /dev/shm /tmp /proc /sys; do stat -c '%n %F %a' $d; done; \
                  echo gone > null; head -c 3 zero | od -An -tx1; head -c 8 urandom | wc -c; \
                  echo x > full 2>/dev/null || echo full is full; echo x > shm/x && cat shm/x; \
                  echo through fd | cat /dev/stdin; ls /proc/sys/kernel/ostype; mktemp >/dev/null && echo tmp is writable";
    let seen = says(3, who, &[], script);
    is_snapshot("mounts/what-a-program-expects-to-find", &[], &seen);
    for number in since(4) {
        let later = says(number, who, &[], script);
        assert_eq!(later, seen, "chapter {number}");
    }
}

fn sys_is_read_only(who: Who) {
    for number in since(3) {
        let ended = sh(number, who, &[], "mkdir /sys/fs/cgroup/x 2>&1; echo 1 > /sys/kernel/mm/ksm/run");
        assert_ne!(ended.status, 0, "chapter {number}");
        assert!(ended.err.contains("Read-only file system"), "chapter {number}: {}", ended.err);
    }
}

fn upper_keeps_what_was_written(who: Who) {
    directory("/tmp/work", who);
    for number in since(3) {
        let upper = format!("/tmp/work/upper{number}");
        let options = ["--upper", upper.as_str()];
        says(number, who, &options, "echo kept > /kept; rm /etc/group; echo more >> /etc/passwd");
        // In the layer: what was added, what was changed, and a mark for what was deleted, nothing else.
        let mut listing = Vec::new();
        tree(Path::new(&upper), &mut listing);
        let names: Vec<_> =
            listing.iter().map(|line| line.split(' ').next().expect("a name").to_string()).collect();
        let expected: Vec<_> = ["/etc", "/etc/group", "/etc/passwd", "/kept"]
            .iter()
            .map(|name| format!("{upper}{name}"))
            .collect();
        assert_eq!(names, expected, "chapter {number}");
        let mark = fs::symlink_metadata(format!("{upper}/etc/group")).expect("a whiteout");
        use std::os::unix::fs::FileTypeExt;
        assert!(mark.file_type().is_char_device() && mark.rdev() == 0, "a whiteout is a device 0/0");
        // A second container finds it again.
        let again =
            says(number, who, &options, "cat /kept; ls /etc/group 2>/dev/null; tail -n 1 /etc/passwd");
        assert_eq!(again, "kept\nmore\n", "chapter {number}");
        let beside: Vec<_> = fs::read_dir("/tmp/work")
            .expect("readable")
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().starts_with('.'))
            .collect();
        assert!(beside.is_empty(), "chapter {number} leaves its work directory: {beside:?}");
    }
}

fn upper_is_used_by_one_at_a_time(who: Who) {
    directory("/tmp/work", who);
    let options = ["--upper", "/tmp/work/upper"];
    let running = Running::start(3, who, &options, "");
    let second = sh(3, who, &options, "true");
    assert_eq!(second.status, 125);
    assert!(second.err.contains("in use by another container"), "{}", second.err);
    running.end();
    says(3, who, &options, "true");
}

fn upper_layer_full(who: Who) {
    directory("/tmp/small", who);
    mount(Some("tmpfs"), "/tmp/small", Some("tmpfs"), MsFlags::empty(), Some("size=1m")).expect("mount");
    fs::create_dir(Path::new("/tmp/small/upper")).expect("room for a directory");
    let options = ["--upper", "/tmp/small/upper"];
    let ended = sh(3, who, &options, "dd if=/dev/zero of=/big bs=64k count=64");
    assert_ne!(ended.status, 0);
    assert!(ended.err.contains("No space left on device"), "{}", ended.err);
    // So full that not even the work directory fits: the container cannot be made.
    fs::remove_dir_all("/tmp/small/upper").expect("removable");
    mount(None::<&str>, "/tmp/small", None::<&str>, MsFlags::MS_REMOUNT, Some("nr_inodes=2"))
        .expect("remount");
    let before = Host::now();
    let ended = sh(3, who, &["--upper", "/tmp/small/upper"], "true");
    assert_eq!(ended.status, 125, "{}", ended.err);
    assert!(ended.err.contains("ENOSPC") && ended.err.contains("full"), "{}", ended.err);
    fs::remove_dir("/tmp/small/upper").ok();
    let mut after = Host::now();
    after.files.retain(|path| !path.starts_with("/tmp/small/upper"));
    let mut before = before;
    before.files.retain(|path| !path.starts_with("/tmp/small/upper"));
    after.must_be(&before, "a full disk");
}

fn volumes(who: Who) {
    directory("/tmp/data", who);
    fs::write("/tmp/data/file", "from outside\n").expect("writable");
    own("/tmp/data/file", who);
    for number in since(3) {
        let script = "cat /data/file; echo inside > /data/written; cat /etc/one; cat /deep/er/file";
        let [one, two, three] = ["/tmp/data:/data", "/tmp/data/file:/etc/one", "/tmp/data:/deep/er:rw"]
            .map(|text| volume(number, text));
        let options = ["-v", &one, "--volume", &two, "-v", &three];
        assert_eq!(says(number, who, &options, script), "from outside\n".repeat(3), "chapter {number}");
        assert_eq!(fs::read_to_string("/tmp/data/written").expect("it was written"), "inside\n");
        fs::remove_file("/tmp/data/written").expect("removable");
        let ended = sh(
            number,
            who,
            &["-v", &volume(number, "/tmp/data:/data:ro")],
            "echo no > /data/file; rm /data/file; touch /data/x",
        );
        assert_eq!(ended.err.matches("Read-only file system").count(), 3, "chapter {number}: {}", ended.err);
        assert_eq!(fs::read_to_string("/tmp/data/file").expect("it is there"), "from outside\n");
    }
    for (volume, status, word) in [
        ("/tmp/nowhere:/x", 125, "ENOENT"),
        ("/tmp/data", 2, "SOURCE:TARGET"),
        ("/tmp/data:relative", 2, "SOURCE:TARGET"),
        ("/tmp/data:/x:z", 2, "not an option"),
        ("name:/x", 2, "named volumes"),
        ("/tmp/data:/", 2, "root directory"),
        ("/tmp/data/file:/tmp", 125, "could not"),
    ] {
        let ended = sh(3, who, &["-v", volume], "true");
        assert_eq!(ended.status, status, "{volume}: {}", ended.err);
        assert!(ended.err.contains(word), "{volume}: {}", ended.err);
    }
}

fn read_only_volumes_all_the_way_down(who: Who) {
    directory("/tmp/data/below/deeper", who);
    for point in ["/tmp/data/below", "/tmp/data/below/deeper"] {
        fs::create_dir_all(point).expect("writable");
        mount(Some("tmpfs"), point, Some("tmpfs"), MsFlags::empty(), Some("mode=1777")).expect("mount");
    }
    fs::create_dir("/tmp/data/below/deeper/d").expect("writable");
    for number in since(3) {
        let script = "for d in /data/below /data/below/deeper; do echo x > $d/x && echo written in $d; done; ls -d /data/below/deeper/d";
        let ended = sh(number, who, &["-v", "/tmp/data:/data:ro"], script);
        assert_eq!(ended.out, "/data/below/deeper/d\n", "chapter {number}");
        let writable = sh(number, who, &["-v", &volume(number, "/tmp/data:/data")], script);
        assert_eq!(writable.out.matches("written").count(), 2, "chapter {number}: {}", writable.err);
    }
}

fn odd_paths(who: Who) {
    let long = "x".repeat(200);
    for name in [
        "a:b",
        "a,b",
        "a\\b",
        "a b",
        "a\nb",
        "a:b,c\\:d,e",
        "ü",
        "$(x)'\"",
        &format!("{long}/{long}/{long}/{long}/{long}/{long}"),
    ] {
        let base = format!("/tmp/odd/{name}");
        let root = format!("{base}/root");
        own_rootfs_at(&root, who);
        let upper = format!("{base}/upper");
        directory(&base, who);
        let volume = format!("{base}:/volume");
        let options = ["--rootfs", root.as_str(), "--upper", upper.as_str(), "-v", volume.as_str()];
        let out = says(3, who, &options, "echo new > /new; ls -d /volume/root; cat /etc/mark");
        assert_eq!(out, "/volume/root\nmark\n", "{name:?}");
        assert_eq!(fs::read_to_string(format!("{upper}/new")).expect("kept"), "new\n", "{name:?}");
        assert!(!Path::new(&format!("{root}/new")).exists(), "{name:?}");
        let target = format!("{base}:/v/{}", name.replace(':', "_"));
        if target.len() < 1000 {
            let out = says(3, who, &["-v", &target], "cd /v/* && ls -d root");
            assert_eq!(out, "root\n", "{name:?}");
        }
    }
}

fn own_rootfs_at(path: &str, who: Who) {
    own_rootfs("/tmp/plain", who);
    directory(Path::new(path).parent().expect("it has one"), who);
    fs::rename("/tmp/plain", path).expect("same filesystem");
    fs::write(format!("{path}/etc/mark"), "mark\n").expect("writable");
}

fn links_in_the_rootfs_lead_nowhere(who: Who) {
    fs::set_permissions("/tmp", fs::Permissions::from_mode(0o1777)).expect("root may");
    directory("/tmp/victim", who);
    for number in since(3) {
        for (name, to) in [
            ("dev", "/tmp/victim"),
            ("proc", "../../../../tmp/victim"),
            ("sys", "/tmp/victim"),
            ("tmp", "/tmp/victim/nowhere"),
            ("volume", "/tmp/victim"),
            ("etc/resolv.conf", "/tmp/victim/resolv.conf"),
            ("etc/hostname", "/../../../tmp/victim/hostname"),
            ("etc/hosts", "../tmp/victim/hosts"),
        ] {
            let _ = fs::remove_dir_all("/tmp/root");
            own_rootfs("/tmp/root", who);
            let link = format!("/tmp/root/{name}");
            let _ = fs::remove_dir_all(&link);
            let _ = fs::remove_file(&link);
            symlink(to, &link).expect("writable");
            let before = Host::now();
            // Made or refused, but nothing outside is touched.
            let ended = run(chapter(number, who).args([
                "--rootfs",
                "/tmp/root",
                "-v",
                "/tmp/root:/volume/x",
                "--",
                "true",
            ]));
            assert!([0, 125].contains(&ended.status), "chapter {number}, {name}: {}", ended.err);
            let inside: Vec<_> = fs::read_dir("/tmp/victim").expect("readable").flatten().collect();
            assert!(inside.is_empty(), "chapter {number}, {name} -> {to}: {inside:?}");
            Host::now().must_be(&before, &format!("chapter {number} with {name} -> {to}"));
        }
    }
}
