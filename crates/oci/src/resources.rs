//! What config.json says of resources, as the kernel wants it: which value goes into which file of which controller.
//!
//! The standard's words are those of version 1. What they are in version 2 is in the table of config-linux.md, and in crun's manual.

use cooperage::container::cgroup::{devices, v1};
use cooperage::container::power::devices::{Access, Kind, Rule, usual_rules};
use cooperage::container::sys;
use cooperage::told::errors::{Error, Result};
use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxDeviceCgroup, LinuxDeviceType, LinuxMemory, LinuxResources,
    LinuxThrottleDevice,
};

use crate::bundle::wrong;
use crate::cgroups::Cgroups;

/// A value, and the file that it goes into.
#[derive(Debug, PartialEq, Eq)]
pub struct Setting {
    /// The controller.
    pub controller: String,
    /// The file.
    pub file: String,
    /// The value.
    pub value: String,
    /// Is it no error if the file is not there?
    pub optional: bool,
}

fn setting(controller: &str, file: &str, value: impl ToString) -> Setting {
    Setting {
        controller: controller.to_string(),
        file: file.to_string(),
        value: value.to_string(),
        optional: false,
    }
}

/// 0 is how clients leave something out.
pub fn is_said(value: &(impl Default + PartialEq)) -> bool {
    *value != Default::default()
}

/// Is there anything that only a cgroup can give?
pub fn needs_cgroup(resources: Option<&LinuxResources>) -> bool {
    let Some(resources) = resources else { return false };
    let memory =
        resources.memory().as_ref().is_some_and(|memory| memory.limit().is_some_and(|limit| limit > 0));
    let pids = resources.pids().as_ref().is_some_and(|pids| pids.limit() > 0);
    let cpu = resources.cpu().as_ref().is_some_and(|cpu| cpu.quota().is_some_and(|quota| quota > 0));
    memory || pids || cpu
}

/// Everything, in the order in which it is to be written.
pub fn settings(cgroups: &Cgroups, resources: &LinuxResources) -> Result<Vec<Setting>> {
    let mut all = Vec::new();
    let second = matches!(cgroups, Cgroups::V2(_));
    if let Some(memory) = resources.memory() {
        all.extend(if second { memory_v2(cgroups, memory)? } else { memory_v1(cgroups, memory) });
    }
    if let Some(cpu) = resources.cpu() {
        all.extend(if second { cpu_v2(cgroups, cpu) } else { cpu_v1(cpu) });
    }
    if let Some(pids) = resources.pids().as_ref().filter(|pids| pids.limit() != 0) {
        let value = if pids.limit() > 0 { pids.limit().to_string() } else { "max".to_string() };
        all.push(setting("pids", "pids.max", value));
    }
    if let Some(disks) = resources.block_io() {
        all.extend(if second { disks_v2(disks) } else { disks_v1(cgroups, disks) });
    }
    for limit in resources.hugepage_limits().iter().flatten() {
        let size = limit.page_size();
        if size.contains('/') {
            return Err(wrong("linux.resources.hugepageLimits", format!("{size:?} is no size")));
        }
        let end = if second { "max" } else { "limit_in_bytes" };
        all.push(setting("hugetlb", &format!("hugetlb.{size}.{end}"), limit.limit()));
        // What is reserved counts as well, where the kernel counts it.
        let reserved = setting("hugetlb", &format!("hugetlb.{size}.rsvd.{end}"), limit.limit());
        all.push(Setting { optional: true, ..reserved });
    }
    if let Some(network) = resources.network().as_ref().filter(|_| !second) {
        all.extend(network.class_id().map(|class| setting("net_cls", "net_cls.classid", class)));
        for priority in network.priorities().iter().flatten() {
            let value = format!("{} {}", priority.name(), priority.priority());
            all.push(setting("net_prio", "net_prio.ifpriomap", value));
        }
    }
    for (device, limit) in resources.rdma().iter().flatten() {
        let number = |value: Option<u32>| value.map_or("max".to_string(), |value| value.to_string());
        let (handles, objects) = (number(limit.hca_handles()), number(limit.hca_objects()));
        let value = format!("{device} hca_handle={handles} hca_object={objects}");
        all.push(setting("rdma", "rdma.max", value));
    }
    if let Some(unified) = resources.unified().as_ref().filter(|unified| !unified.is_empty()) {
        if !second {
            return Err(wrong(
                "linux.resources.unified",
                "that is for version 2 of cgroups, and here is version 1",
            ));
        }
        let mut unified: Vec<_> = unified.iter().collect();
        unified.sort();
        for (file, value) in unified {
            if file.contains('/') || !file.contains('.') {
                return Err(wrong("linux.resources.unified", format!("{file:?} is no file of a cgroup")));
            }
            let controller = file.split('.').next().unwrap_or_default();
            // A file with several lines takes them one by one.
            all.extend(value.lines().map(|line| setting(controller, file, line)));
        }
    }
    Ok(all)
}

/// The limit of memory and that of memory with swap: at no moment may the first be above the second.
fn memory_v1(cgroups: &Cgroups, memory: &LinuxMemory) -> Vec<Setting> {
    let limit = memory.limit().filter(is_said).map(|limit| setting("memory", "memory.limit_in_bytes", limit));
    // The kernel may count no swap, and then there is none to limit.
    let swap =
        memory.swap().filter(is_said).map(|swap| setting("memory", "memory.memsw.limit_in_bytes", swap));
    let now = cgroups
        .directory("memory")
        .and_then(|directory| sys::read_file(&directory.join("memory.memsw.limit_in_bytes")).ok())
        .and_then(|text| text.trim().parse::<u64>().ok());
    let unlimited = |value: i64| if value < 0 { u64::MAX } else { value as u64 };
    let rises = memory.swap().is_some_and(|swap| unlimited(swap) > now.unwrap_or(u64::MAX) || swap < 0);
    let both = if rises { [swap, limit] } else { [limit, swap] };
    let rest = [
        memory
            .reservation()
            .filter(is_said)
            .map(|value| setting("memory", "memory.soft_limit_in_bytes", value)),
        memory
            .kernel_tcp()
            .filter(is_said)
            .map(|value| setting("memory", "memory.kmem.tcp.limit_in_bytes", value)),
        memory.swappiness().map(|value| setting("memory", "memory.swappiness", value)),
        memory.disable_oom_killer().filter(|off| *off).map(|_| setting("memory", "memory.oom_control", 1)),
    ];
    both.into_iter().chain(rest).flatten().collect()
}

fn memory_v2(cgroups: &Cgroups, memory: &LinuxMemory) -> Result<Vec<Setting>> {
    let word = |value: i64| if value < 0 { "max".to_string() } else { value.to_string() };
    let mut all = Vec::new();
    if memory.check_before_update() == Some(true)
        && let (Some(limit), Some(directory)) =
            (memory.limit().filter(|limit| *limit > 0), cgroups.directory("memory"))
        && let Ok(used) = sys::read_file(&directory.join("memory.current"))
        && used.trim().parse::<i64>().is_ok_and(|used| used > limit)
    {
        return Err(wrong(
            "linux.resources.memory.limit",
            format!("{} bytes are in use already", used.trim()),
        ));
    }
    // Version 2 counts swap for itself, the standard counts both together.
    match (memory.swap().filter(is_said), memory.limit()) {
        (Some(-1), _) => all.push(setting("memory", "memory.swap.max", "max")),
        (Some(swap), Some(limit)) if limit >= 0 && swap >= limit => {
            all.push(setting("memory", "memory.swap.max", swap - limit));
        }
        (Some(swap), _) => {
            return Err(wrong(
                "linux.resources.memory.swap",
                format!("{swap} is less than the limit, or there is none"),
            ));
        }
        (None, _) => {}
    }
    // The kernel may have no swap.
    all.iter_mut().for_each(|setting| setting.optional = true);
    all.extend(memory.limit().filter(is_said).map(|limit| setting("memory", "memory.max", word(limit))));
    all.extend(
        memory.reservation().filter(is_said).map(|value| setting("memory", "memory.low", word(value))),
    );
    Ok(all)
}

fn cpu_v1(cpu: &LinuxCpu) -> Vec<Setting> {
    let mut all = Vec::new();
    all.extend(cpu.shares().filter(is_said).map(|value| setting("cpu", "cpu.shares", value)));
    all.extend(cpu.period().filter(is_said).map(|value| setting("cpu", "cpu.cfs_period_us", value)));
    // A burst may not be above the quota, so one that goes down goes first.
    all.extend(cpu.quota().filter(is_said).map(|value| setting("cpu", "cpu.cfs_quota_us", value)));
    all.extend(cpu.burst().map(|value| setting("cpu", "cpu.cfs_burst_us", value)));
    all.extend(cpu.realtime_period().filter(is_said).map(|value| setting("cpu", "cpu.rt_period_us", value)));
    all.extend(
        cpu.realtime_runtime().filter(is_said).map(|value| setting("cpu", "cpu.rt_runtime_us", value)),
    );
    all.extend(cpu.idle().map(|value| setting("cpu", "cpu.idle", value)));
    all.extend(cpuset(cpu));
    all
}

fn cpu_v2(cgroups: &Cgroups, cpu: &LinuxCpu) -> Vec<Setting> {
    let mut all = Vec::new();
    all.extend(cpu.idle().map(|value| setting("cpu", "cpu.idle", value)));
    all.extend(cpu.shares().filter(is_said).map(|shares| setting("cpu", "cpu.weight", weight(shares))));
    let (quota, period) = (cpu.quota().filter(is_said), cpu.period().filter(is_said));
    if quota.is_some() || period.is_some() {
        // One file for both: what is not said stays as it is.
        let now =
            cgroups.directory("cpu").and_then(|directory| sys::read_file(&directory.join("cpu.max")).ok());
        let now = now.unwrap_or_default();
        let mut now = now.split_whitespace();
        let (quota_now, period_now) = (now.next().unwrap_or("max"), now.next().unwrap_or("100000"));
        let quota = match quota {
            Some(quota) if quota > 0 => quota.to_string(),
            Some(_) => "max".to_string(),
            None => quota_now.to_string(),
        };
        let period = period.map_or(period_now.to_string(), |period| period.to_string());
        all.push(setting("cpu", "cpu.max", format!("{quota} {period}")));
    }
    all.extend(cpu.burst().map(|value| setting("cpu", "cpu.max.burst", value)));
    all.extend(cpuset(cpu));
    all
}

/// Shares of version 1, from 2 to 262144, as a weight of version 2, from 1 to 10000.
pub fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

fn cpuset(cpu: &LinuxCpu) -> Vec<Setting> {
    let filled = |text: &&String| !text.is_empty();
    let cpus = cpu.cpus().as_ref().filter(filled).map(|list| setting("cpuset", "cpuset.cpus", list));
    let mems = cpu.mems().as_ref().filter(filled).map(|list| setting("cpuset", "cpuset.mems", list));
    cpus.into_iter().chain(mems).collect()
}

fn disks_v1(cgroups: &Cgroups, disks: &LinuxBlockIo) -> Vec<Setting> {
    let mut all = Vec::new();
    let has = |file: &str| cgroups.directory("blkio").is_some_and(|directory| directory.join(file).exists());
    // The scheduler that knows weights has had two names.
    let file = if has("blkio.bfq.weight") { "blkio.bfq.weight" } else { "blkio.weight" };
    if let Some(weight) = disks.weight().filter(is_said) {
        all.push(setting("blkio", file, weight));
    }
    for device in disks.weight_device().iter().flatten() {
        if let Some(weight) = device.weight() {
            all.push(setting(
                "blkio",
                &format!("{file}_device"),
                format!("{}:{} {weight}", device.major(), device.minor()),
            ));
        }
    }
    for (file, list) in [
        ("blkio.throttle.read_bps_device", disks.throttle_read_bps_device()),
        ("blkio.throttle.write_bps_device", disks.throttle_write_bps_device()),
        ("blkio.throttle.read_iops_device", disks.throttle_read_iops_device()),
        ("blkio.throttle.write_iops_device", disks.throttle_write_iops_device()),
    ] {
        let line =
            |device: &LinuxThrottleDevice| format!("{}:{} {}", device.major(), device.minor(), device.rate());
        all.extend(list.iter().flatten().map(|device| setting("blkio", file, line(device))));
    }
    all
}

fn disks_v2(disks: &LinuxBlockIo) -> Vec<Setting> {
    let mut all = Vec::new();
    if let Some(weight) = disks.weight().filter(is_said) {
        // 10 to 1000, and 1 to 10000.
        let weight = 1 + (u64::from(weight).clamp(10, 1000) - 10) * 9999 / 990;
        all.push(setting("io", "io.weight", weight));
    }
    for (word, list) in [
        ("rbps", disks.throttle_read_bps_device()),
        ("wbps", disks.throttle_write_bps_device()),
        ("riops", disks.throttle_read_iops_device()),
        ("wiops", disks.throttle_write_iops_device()),
    ] {
        let line = |device: &LinuxThrottleDevice| {
            format!("{}:{} {word}={}", device.major(), device.minor(), device.rate())
        };
        all.extend(list.iter().flatten().map(|device| setting("io", "io.max", line(device))));
    }
    all
}

/// Has the kernel allow the devices that the rules allow, and the usual ones, and no others. The standard's rules are a list in which
/// the last word counts; the kernel's is a list of what is allowed.
pub fn devices(cgroups: &Cgroups, resources: &LinuxResources) -> Result<()> {
    let Some(rules) = resources.devices() else { return Ok(()) };
    let Some(allowed) = allowed(rules)? else { return Ok(()) };
    match cgroups {
        Cgroups::None => Ok(()),
        Cgroups::V1(_) => {
            let Some(directory) = cgroups.directory("devices") else { return Ok(()) };
            v1::allow_devices(directory, &allowed)
        }
        Cgroups::V2(directory) => devices::allow(directory, &allowed),
    }
}

/// What is allowed in the end; `None` if everything is.
fn allowed(rules: &[LinuxDeviceCgroup]) -> Result<Option<Vec<Rule>>> {
    let mut all = true;
    let mut allowed: Vec<Rule> = Vec::new();
    for rule in rules {
        let field = "linux.resources.devices";
        let access = rule.access().as_deref().filter(|text| !text.is_empty()).unwrap_or("rwm");
        let access = Access::parse(access).ok_or_else(|| wrong(field, format!("{access:?} is no access")))?;
        let number = |value: Option<i64>| value.filter(|value| *value >= 0).map(|value| value as u64);
        let (major, minor) = (number(rule.major()), number(rule.minor()));
        let kinds = match rule.typ().unwrap_or(LinuxDeviceType::A) {
            LinuxDeviceType::A => vec![Kind::Character, Kind::Block],
            LinuxDeviceType::B => vec![Kind::Block],
            LinuxDeviceType::C | LinuxDeviceType::U => vec![Kind::Character],
            LinuxDeviceType::P => return Err(wrong(field, "a pipe is no device")),
        };
        let whole = kinds.len() == 2 && major.is_none() && minor.is_none() && access.bits() == 7;
        if whole {
            all = rule.allow();
            allowed.clear();
            continue;
        }
        for kind in kinds {
            let one = Rule { kind, major, minor, access };
            if rule.allow() {
                allowed.push(one);
            } else if all {
                return Err(wrong(field, "devices are taken away one by one: take away all, and allow some"));
            } else {
                allowed.retain(|earlier| *earlier != one);
            }
        }
    }
    if all {
        return Ok(None);
    }
    let mut everything = usual_rules();
    everything.extend(allowed);
    Ok(Some(everything))
}

/// The JSON of `linux.resources`.
pub fn parse(text: &[u8]) -> Result<LinuxResources> {
    serde_json::from_slice(text).map_err(|error| Error::new("read the resources", error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> LinuxResources {
        parse(text.as_bytes()).expect("resources")
    }

    fn files(cgroups: &Cgroups, text: &str) -> Vec<(String, String)> {
        let all = settings(cgroups, &read(text)).expect("settings");
        all.into_iter().map(|setting| (setting.file, setting.value)).collect()
    }

    fn is(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(file, value)| (file.to_string(), value.to_string())).collect()
    }

    #[test]
    fn each_version_has_its_own_words() {
        let text = r#"{"memory": {"limit": 1000, "swap": 3000, "reservation": 500}, "pids": {"limit": 5},
                       "cpu": {"shares": 1024, "quota": 50000, "period": 100000, "cpus": "0-1"}, "blockIO": {"weight": 500}}"#;
        let first = Cgroups::V1(Vec::new());
        assert_eq!(
            files(&first, text),
            is(&[
                ("memory.limit_in_bytes", "1000"),
                ("memory.memsw.limit_in_bytes", "3000"),
                ("memory.soft_limit_in_bytes", "500"),
                ("cpu.shares", "1024"),
                ("cpu.cfs_period_us", "100000"),
                ("cpu.cfs_quota_us", "50000"),
                ("cpuset.cpus", "0-1"),
                ("pids.max", "5"),
                ("blkio.weight", "500"),
            ])
        );
        let second = Cgroups::V2("/nowhere".into());
        assert_eq!(
            files(&second, text),
            is(&[
                ("memory.swap.max", "2000"),
                ("memory.max", "1000"),
                ("memory.low", "500"),
                ("cpu.weight", "39"),
                ("cpu.max", "50000 100000"),
                ("cpuset.cpus", "0-1"),
                ("pids.max", "5"),
                ("io.weight", "4950"),
            ])
        );
    }

    #[test]
    fn no_limit_has_a_word_too() {
        let text = r#"{"memory": {"limit": -1, "swap": -1}, "pids": {"limit": -1}, "cpu": {"quota": -1}}"#;
        let second = Cgroups::V2("/nowhere".into());
        assert_eq!(
            files(&second, text),
            is(&[
                ("memory.swap.max", "max"),
                ("memory.max", "max"),
                ("cpu.max", "max 100000"),
                ("pids.max", "max")
            ])
        );
        // Memory with swap goes up before memory does.
        let first = Cgroups::V1(Vec::new());
        assert_eq!(files(&first, text)[0].0, "memory.memsw.limit_in_bytes");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let (first, second) = (Cgroups::V1(Vec::new()), Cgroups::V2("/nowhere".into()));
        for (cgroups, text) in [
            (&first, r#"{"unified": {"memory.high": "1"}}"#),
            (&second, r#"{"unified": {"../memory.high": "1"}}"#),
            (&second, r#"{"memory": {"limit": 100, "swap": 50}}"#),
            (&second, r#"{"hugepageLimits": [{"pageSize": "a/b", "limit": 1}]}"#),
        ] {
            assert!(settings(cgroups, &read(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn the_last_word_about_devices_counts() {
        let list = |text: &str| {
            allowed(&read(text).devices().clone().expect("devices")).map(|list| list.map(|list| list.len()))
        };
        let usual = usual_rules().len();
        assert_eq!(list(r#"{"devices": [{"allow": true}]}"#).expect("fine"), None);
        assert_eq!(list(r#"{"devices": [{"allow": false}]}"#).expect("fine"), Some(usual));
        let two = r#"{"devices": [{"allow": false}, {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw"},
                                  {"allow": true, "type": "b", "major": 8}]}"#;
        assert_eq!(list(two).expect("fine"), Some(usual + 2));
        let taken = r#"{"devices": [{"allow": false}, {"allow": true, "type": "c", "major": 1, "minor": 1, "access": "r"},
                                    {"allow": false, "type": "c", "major": 1, "minor": 1, "access": "r"}]}"#;
        assert_eq!(list(taken).expect("fine"), Some(usual));
        assert!(
            list(r#"{"devices": [{"allow": false, "type": "c", "major": 1, "access": "rwm"}]}"#).is_err()
        );
        assert!(list(r#"{"devices": [{"allow": true, "type": "c", "access": "x"}]}"#).is_err());
    }
}
