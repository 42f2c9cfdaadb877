//! What is printed: states, lists, what a container uses, what this runtime knows.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use cooperage::container::capability::Capability;
use cooperage::container::sys;
use cooperage::told::errors::{Error, Result};
use nix::unistd::{User, geteuid};
use serde_json::{Value, json};

use crate::bundle::VERSION;
use crate::cgroups::Cgroups;
use crate::cli::{Events, Format, Global, List, Ps, Spec};
use crate::mounts::known_options;
use crate::record::{Record, Status, all, look};

/// Prints. A reader that is gone is no failure.
fn print(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

/// `state`
pub fn state(global: &Global, id: &str) -> Result<()> {
    let (record, status) = look(global, id)?;
    print(&pretty(&described(&record, status)));
    Ok(())
}

/// The state that the standard has, and what runc adds to it.
fn described(record: &Record, status: Status) -> Value {
    let mut state = record.state(status);
    state["pid"] = json!(if status == Status::Stopped { 0 } else { record.pid });
    state["rootfs"] = json!(record.rootfs);
    state["created"] = json!(record.created);
    state["owner"] = json!("");
    state
}

/// `list`
pub fn list(global: &Global, args: &List) -> Result<()> {
    let found = all(global);
    if args.quiet {
        found.iter().for_each(|(record, _)| print(&record.id));
        return Ok(());
    }
    if args.format == Format::Json {
        let described: Vec<Value> = found.iter().map(|(record, status)| described(record, *status)).collect();
        print(&json!(described).to_string());
        return Ok(());
    }
    let owner = User::from_uid(geteuid()).ok().flatten().map_or(geteuid().to_string(), |user| user.name);
    let mut rows = vec![["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_string)];
    rows.extend(found.iter().map(|(record, status)| {
        let pid = if *status == Status::Stopped { 0 } else { record.pid };
        [
            record.id.clone(),
            pid.to_string(),
            status.word().to_string(),
            record.bundle.display().to_string(),
            record.created.clone(),
            owner.clone(),
        ]
    }));
    let widths: [usize; 6] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    for row in rows {
        let cells: Vec<String> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        print(cells.join("   ").trim_end());
    }
    Ok(())
}

/// `ps`
pub fn ps(global: &Global, args: &Ps) -> Result<()> {
    let step = format!("list the processes of the container {:?}", args.id);
    let (record, status) = look(global, &args.id)?;
    let mut pids: Vec<i32> = record.cgroups.processes().iter().map(|pid| pid.as_raw()).collect();
    if pids.is_empty() && status != Status::Stopped {
        pids.push(record.pid); // it has no cgroup of its own
    }
    if args.format == Format::Json {
        print(&json!(pids).to_string());
        return Ok(());
    }
    let options = if args.options.is_empty() { vec!["-ef".to_string()] } else { args.options.clone() };
    let output = std::process::Command::new("ps")
        .args(&options)
        .output()
        .map_err(|error| Error::io(&step, "ps", &error))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    let head = lines.next().unwrap_or_default();
    let column = head
        .split_whitespace()
        .position(|word| word == "PID")
        .ok_or_else(|| Error::new(&step, "ps prints no column PID"))?;
    print(head);
    for line in lines {
        let pid = line.split_whitespace().nth(column).and_then(|word| word.parse().ok());
        if pid.is_some_and(|pid: i32| pids.contains(&pid)) {
            print(line);
        }
    }
    Ok(())
}

/// `events`
pub fn events(global: &Global, args: &Events) -> Result<()> {
    let interval = duration(&args.interval)?;
    loop {
        let (record, status) = look(global, &args.id)?;
        if status == Status::Stopped {
            return match args.stats {
                true => {
                    Err(Error::new(format!("watch the container {:?}", args.id), "container not running"))
                }
                false => Ok(()),
            };
        }
        print(&json!({"type": "stats", "id": record.id, "data": usage(&record.cgroups)}).to_string());
        if args.stats {
            return Ok(());
        }
        std::thread::sleep(interval);
    }
}

/// 5s, 500ms, 1m30s: as Go writes durations.
fn duration(text: &str) -> Result<Duration> {
    let read = humantime::parse_duration(text).ok().filter(|duration| !duration.is_zero());
    read.ok_or_else(|| {
        Error::new("read --interval", format!("{text:?} is no duration: write 5s or 500ms")).status(2)
    })
}

/// What it uses, as runc says it.
fn usage(cgroups: &Cgroups) -> Value {
    let second = matches!(cgroups, Cgroups::V2(_));
    let text = |controller: &str, file: &str| {
        let directory = cgroups.directory(controller)?;
        sys::read_file(&directory.join(file)).ok()
    };
    let number = |controller: &str, file: &str| -> u64 {
        text(controller, file).and_then(|text| text.trim().parse().ok()).unwrap_or(0)
    };
    let pairs = |controller: &str, file: &str| -> BTreeMap<String, u64> {
        let text = text(controller, file).unwrap_or_default();
        text.lines()
            .filter_map(|line| {
                let (key, value) = line.split_once(' ')?;
                Some((key.to_string(), value.trim().parse().ok()?))
            })
            .collect()
    };
    let pids = json!({"current": number("pids", "pids.current"), "limit": number("pids", "pids.max")});
    if second {
        let cpu = pairs("cpu", "cpu.stat");
        let nanoseconds = |key: &str| cpu.get(key).copied().unwrap_or(0).saturating_mul(1000);
        return json!({
            "cpu": {
                "usage": {"total": nanoseconds("usage_usec"), "kernel": nanoseconds("system_usec"), "user": nanoseconds("user_usec")},
                "throttling": {
                    "periods": cpu.get("nr_periods").copied().unwrap_or(0),
                    "throttledPeriods": cpu.get("nr_throttled").copied().unwrap_or(0),
                    "throttledTime": nanoseconds("throttled_usec"),
                },
            },
            "memory": {
                "usage": {
                    "usage": number("memory", "memory.current"),
                    "max": number("memory", "memory.peak"),
                    "limit": number("memory", "memory.max"),
                },
                "raw": pairs("memory", "memory.stat"),
            },
            "pids": pids,
        });
    }
    let throttled = pairs("cpu", "cpu.stat");
    json!({
        "cpu": {
            "usage": {
                "total": number("cpuacct", "cpuacct.usage"),
                "kernel": number("cpuacct", "cpuacct.usage_sys"),
                "user": number("cpuacct", "cpuacct.usage_user"),
            },
            "throttling": {
                "periods": throttled.get("nr_periods").copied().unwrap_or(0),
                "throttledPeriods": throttled.get("nr_throttled").copied().unwrap_or(0),
                "throttledTime": throttled.get("throttled_time").copied().unwrap_or(0),
            },
        },
        "memory": {
            "usage": {
                "usage": number("memory", "memory.usage_in_bytes"),
                "max": number("memory", "memory.max_usage_in_bytes"),
                "limit": number("memory", "memory.limit_in_bytes"),
                "failcnt": number("memory", "memory.failcnt"),
            },
            "raw": pairs("memory", "memory.stat"),
        },
        "pids": pids,
    })
}

/// `spec`
pub fn spec(args: &Spec) -> Result<()> {
    let file = args.bundle.join("config.json");
    let text = pretty(&example(args.rootless));
    std::fs::File::create_new(&file)
        .and_then(|mut opened| opened.write_all(format!("{text}\n").as_bytes()))
        .map_err(|error| Error::io("write config.json", &file, &error))
}

/// A config.json to begin with: that of `runc spec`.
fn example(rootless: bool) -> Value {
    let kept = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    let mut mounts = vec![
        json!({"destination": "/proc", "type": "proc", "source": "proc"}),
        json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
               "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]}),
        json!({"destination": "/dev/pts", "type": "devpts", "source": "devpts",
               "options": if rootless { json!(["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]) }
                          else { json!(["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]) }}),
        json!({"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
               "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]}),
        json!({"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]}),
    ];
    let mut namespaces = vec![
        json!({"type": "pid"}),
        json!({"type": "ipc"}),
        json!({"type": "uts"}),
        json!({"type": "mount"}),
        json!({"type": "cgroup"}),
    ];
    let mut linux = json!({
        "maskedPaths": ["/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
                        "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"],
        "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
    });
    if rootless {
        mounts.push(json!({"destination": "/sys", "type": "none", "source": "/sys", "options": ["rbind", "nosuid", "noexec", "nodev", "ro"]}));
        namespaces.push(json!({"type": "user"}));
        linux["uidMappings"] = json!([{"containerID": 0, "hostID": geteuid().as_raw(), "size": 1}]);
        linux["gidMappings"] =
            json!([{"containerID": 0, "hostID": nix::unistd::getegid().as_raw(), "size": 1}]);
    } else {
        mounts.push(json!({"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]}));
        mounts.push(json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
                           "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]}));
        namespaces.push(json!({"type": "network"}));
        linux["resources"] = json!({"devices": [{"allow": false, "access": "rwm"}]});
    }
    linux["namespaces"] = json!(namespaces);
    json!({
        "ociVersion": VERSION,
        "process": {
            "terminal": true,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {"bounding": kept, "effective": kept, "permitted": kept},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "cooperage",
        "mounts": mounts,
        "linux": linux,
    })
}

/// `features`
pub fn features() {
    let capabilities: Vec<String> = Capability::KNOWN.iter().map(Capability::to_string).collect();
    let apparmor = Path::new("/sys/kernel/security/apparmor").exists();
    let selinux = Path::new("/sys/fs/selinux").exists();
    let machine = if cfg!(target_arch = "aarch64") { "SCMP_ARCH_AARCH64" } else { "SCMP_ARCH_X86_64" };
    print(&pretty(&json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": VERSION,
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": known_options(),
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            "capabilities": capabilities,
            "cgroup": {"v1": true, "v2": true, "systemd": true, "systemdUser": true, "rdma": true},
            "seccomp": {
                "enabled": true,
                "actions": ["SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD",
                            "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP"],
                "operators": ["SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE"],
                "archs": [machine],
                "knownFlags": ["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_LOG",
                               "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
                "supportedFlags": ["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_LOG",
                                   "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
            },
            "apparmor": {"enabled": apparmor},
            "selinux": {"enabled": selinux},
            "intelRdt": {"enabled": false},
            "mountExtensions": {"idmap": {"enabled": true}},
            "netDevices": {"enabled": false},
            "memoryPolicy": {
                "modes": ["MPOL_DEFAULT", "MPOL_BIND", "MPOL_INTERLEAVE", "MPOL_WEIGHTED_INTERLEAVE", "MPOL_PREFERRED", "MPOL_PREFERRED_MANY", "MPOL_LOCAL"],
                "flags": ["MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"],
            },
        },
    })));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        for (text, milliseconds) in [("5s", 5000), ("500ms", 500), ("1m30s", 90_000), ("1h", 3_600_000)] {
            assert_eq!(duration(text).expect("a duration"), Duration::from_millis(milliseconds), "{text}");
        }
        for text in ["", "5", "s", "0s", "-1s", "5x", "1s2", "9999999999999999h9999999999999999h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_example_is_a_good_one() {
        for rootless in [false, true] {
            let spec: oci_spec::runtime::Spec =
                serde_json::from_value(example(rootless)).expect("it is read");
            assert_eq!(spec.version(), VERSION);
        }
    }
}
