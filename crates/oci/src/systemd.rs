//! Cgroups that systemd makes. Where it runs it wants to be the only one who does; so a runtime asks it, over D-Bus, for a *scope*: a
//! unit around processes that somebody else has started. See org.freedesktop.systemd1(5) and systemd's document "Control Group APIs and Delegation".
//!
//! `linux.cgroupsPath` is no path then but `SLICE:PREFIX:NAME`, and the unit PREFIX-NAME.scope in that slice.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cooperage::container::cgroup::{Mount, own_directory};
use cooperage::container::sys;
use cooperage::told::errors::{Error, Result};
use nix::unistd::Pid;
use oci_spec::runtime::LinuxResources;
use rustbus::connection::Timeout;
use rustbus::message_builder::{MarshalledMessage, MessageBuilder, MessageType};
use rustbus::{DuplexConn, RpcConn, get_session_bus_path, get_system_bus_path};

use crate::bundle::wrong;
use crate::cgroups::Cgroups;
use crate::cli::{CgroupManager, Global};
use crate::resources::{is_said, weight};

const STEP: &str = "have systemd make the cgroup";
/// How long systemd may take. A bus that never answers is no reason to wait for ever.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a property may be.
mod value {
    #![allow(missing_docs)] // the macro writes none
    rustbus::dbus_variant_var!(Value, Text => String; Switch => bool; Number => u64; Processes => Vec<u32>);
}
use value::Value;

type Properties<'a> = Vec<(String, Value<'a, 'a>)>;

/// A scope that is to be.
pub struct Scope {
    /// Its name.
    pub unit: String,
    slice: String,
}

impl Scope {
    /// The one that config.json names; none if systemd has nothing to do with it.
    pub fn of(global: &Global, id: &str, path: Option<&Path>) -> Result<Option<Scope>> {
        if !global.systemd_cgroup && global.cgroup_manager != CgroupManager::Systemd {
            return Ok(None);
        }
        let read = |file: &str| {
            sys::read_file(Path::new(file)).map_err(|error| Error::io("look for cgroups", file, &error))
        };
        let mounts = Mount::all(&read("/proc/self/mountinfo")?);
        if own_directory(&mounts, &read("/proc/self/cgroup")?, None).is_none() {
            return Err(Error::new(STEP, "version 2 of cgroups is not mounted")
                .remedy("with version 1 have the client use the cgroupfs driver"));
        }
        Scope::named(id, path.and_then(Path::to_str).unwrap_or_default(), global.is_rootless()).map(Some)
    }

    fn named(id: &str, path: &str, of_user: bool) -> Result<Scope> {
        let parts: Vec<&str> = path.split(':').collect();
        let (slice, prefix, name) = match parts[..] {
            [""] => ("", "cooperage", id),
            [slice, prefix, name] => (slice, prefix, name),
            _ => {
                return Err(wrong(
                    "linux.cgroupsPath",
                    format!("{path:?}: with systemd it is SLICE:PREFIX:NAME"),
                ));
            }
        };
        let usual = if of_user { "user.slice" } else { "system.slice" };
        let slice = if slice.is_empty() { usual } else { slice };
        let unit = match prefix {
            "" => format!("{name}.scope"),
            _ => format!("{prefix}-{name}.scope"),
        };
        let good = |text: &str| {
            text.len() < 256 && text.chars().all(|c| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c))
        };
        if !slice.ends_with(".slice") || !good(slice) || !good(&unit) || name.is_empty() {
            return Err(wrong("linux.cgroupsPath", format!("{path:?} names no slice and no unit")));
        }
        Ok(Scope { unit, slice: slice.to_string() })
    }

    // ANCHOR: scope-start
    /// Has the process put into it. Returns its cgroup.
    pub fn start(&self, global: &Global, pid: Pid, resources: Option<&LinuxResources>) -> Result<Cgroups> {
        let mut properties: Properties = vec![
            ("Description".into(), Value::Text(format!("the container {}", self.unit))),
            ("Slice".into(), Value::Text(self.slice.clone())),
            ("PIDs".into(), Value::Processes(vec![pid.as_raw() as u32])),
            // The cgroups below are the container's, and not systemd's to tidy up.
            ("Delegate".into(), Value::Switch(true)),
            ("DefaultDependencies".into(), Value::Switch(false)),
        ];
        properties.extend(limits(resources));
        let mut bus = Bus::open(global.is_rootless())?;
        bus.call_job("StartTransientUnit", |call| {
            let nothing: Vec<(String, Properties)> = Vec::new();
            call.body.push_param4(&self.unit, "replace", properties, nothing)
        })?;
        directory_of(&pid.to_string()).map(Cgroups::V2)
    }
    // ANCHOR_END: scope-start
}

/// Ends a scope that there may be.
pub fn stop(global: &Global, unit: &str) {
    if let Ok(mut bus) = Bus::open(global.is_rootless()) {
        let _ = bus.call_job("StopUnit", |call| call.body.push_param2(unit, "replace"));
        // One whose processes were killed would be listed as failed.
        let _ = bus.call("ResetFailedUnit", |call| call.body.push_param(unit));
    }
}

/// Tells systemd of new limits: else it would write the old ones again some day.
pub fn update(global: &Global, unit: &str, resources: &LinuxResources) -> Result<()> {
    let properties = limits(Some(resources));
    if properties.is_empty() {
        return Ok(());
    }
    let mut bus = Bus::open(global.is_rootless())?;
    bus.call("SetUnitProperties", |call| call.body.push_param3(unit, true, properties)).map(drop)
}

/// The cgroup of a process, of version 2: by its number, or `self`.
pub fn directory_of(process: &str) -> Result<PathBuf> {
    let file = format!("/proc/{process}/cgroup");
    let memberships = sys::read_file(Path::new(&file)).map_err(|error| Error::io(STEP, &file, &error))?;
    let mounts = sys::read_file(Path::new("/proc/self/mountinfo"))
        .map_err(|error| Error::io(STEP, "/proc/self/mountinfo", &error))?;
    own_directory(&Mount::all(&mounts), &memberships, None)
        .map(|(_, directory)| directory)
        .ok_or_else(|| Error::new(STEP, "the process is in none"))
}

/// Limits that systemd has names for. The others are written beside it.
fn limits(resources: Option<&LinuxResources>) -> Properties<'static> {
    let mut all = Properties::new();
    let Some(resources) = resources else { return all };
    let unlimited = |value: i64| if value < 0 { u64::MAX } else { value as u64 };
    let said = |value: Option<i64>| value.filter(is_said).map(unlimited);
    if let Some(memory) = resources.memory() {
        all.extend(said(memory.limit()).map(|limit| ("MemoryMax".into(), Value::Number(limit))));
        all.extend(said(memory.reservation()).map(|low| ("MemoryLow".into(), Value::Number(low))));
    }
    if let Some(cpu) = resources.cpu() {
        let period = cpu.period().filter(|period| *period > 0).unwrap_or(100_000);
        if let Some(quota) = said(cpu.quota()) {
            let each_second =
                if quota == u64::MAX { quota } else { quota.saturating_mul(1_000_000) / period };
            all.push(("CPUQuotaPerSecUSec".into(), Value::Number(each_second)));
        }
        if let Some(shares) = cpu.shares().filter(is_said) {
            all.push(("CPUWeight".into(), Value::Number(weight(shares))));
        }
    }
    if let Some(limit) = resources.pids().as_ref().and_then(|pids| said(Some(pids.limit()))) {
        all.push(("TasksMax".into(), Value::Number(limit)));
    }
    all
}

/// A connection to systemd.
struct Bus(RpcConn);

impl Bus {
    fn open(of_user: bool) -> Result<Bus> {
        let failed = |error: rustbus::connection::Error| {
            Error::new(STEP, format!("the bus: {error}"))
                .remedy("where systemd does not run, have the client use the cgroupfs driver")
        };
        let address = if of_user { get_session_bus_path() } else { get_system_bus_path() }.map_err(failed)?;
        let mut connection = DuplexConn::connect_to_bus(address, false).map_err(failed)?;
        connection.send_hello(Timeout::Duration(PATIENCE)).map_err(failed)?;
        Ok(Bus(RpcConn::new(connection)))
    }

    fn call<F>(&mut self, method: &str, push: F) -> Result<MarshalledMessage>
    where
        F: FnOnce(&mut MarshalledMessage) -> std::result::Result<(), rustbus::wire::errors::MarshalError>,
    {
        self.call_on(
            "org.freedesktop.systemd1",
            "/org/freedesktop/systemd1",
            "org.freedesktop.systemd1.Manager",
            method,
            push,
        )
    }

    fn call_on<F>(
        &mut self,
        to: &str,
        object: &str,
        interface: &str,
        method: &str,
        push: F,
    ) -> Result<MarshalledMessage>
    where
        F: FnOnce(&mut MarshalledMessage) -> std::result::Result<(), rustbus::wire::errors::MarshalError>,
    {
        let failed = |reason: String| Error::new(STEP, format!("{method}: {reason}"));
        let mut call = MessageBuilder::new().call(method).with_interface(interface).on(object).at(to).build();
        push(&mut call).map_err(|error| failed(format!("{error:?}")))?;
        let sent = self.0.send_message(&mut call).map_err(|error| failed(error.to_string()))?;
        let serial = sent.write_all().map_err(|(_, error)| failed(error.to_string()))?;
        let answer = self
            .0
            .wait_response(serial, Timeout::Duration(PATIENCE))
            .map_err(|error| failed(error.to_string()))?;
        if answer.typ == MessageType::Error {
            let name = answer.dynheader.error_name.clone().unwrap_or_default();
            let text: String = answer.body.parser().get().unwrap_or_default();
            return Err(failed(format!("{name}: {text}")));
        }
        Ok(answer)
    }

    /// A call that begins a job, and its end. The end is told to who has said before that he listens.
    fn call_job<F>(&mut self, method: &str, push: F) -> Result<()>
    where
        F: FnOnce(&mut MarshalledMessage) -> std::result::Result<(), rustbus::wire::errors::MarshalError>,
    {
        let rule = "type='signal',interface='org.freedesktop.systemd1.Manager',member='JobRemoved'";
        self.call_on(
            "org.freedesktop.DBus",
            "/org/freedesktop/DBus",
            "org.freedesktop.DBus",
            "AddMatch",
            |call| call.body.push_param(rule),
        )?;
        self.call("Subscribe", |_| Ok(()))?;
        let answer = self.call(method, push)?;
        let job: rustbus::wire::ObjectPath<String> =
            answer.body.parser().get().map_err(|error| Error::new(STEP, format!("{method}: {error:?}")))?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let signal = self
                .0
                .wait_signal(Timeout::Duration(left))
                .map_err(|error| Error::new(STEP, format!("{method}: {error}")))?;
            if signal.dynheader.member.as_deref() != Some("JobRemoved") {
                continue;
            }
            let mut parser = signal.body.parser();
            let (_, ended): (u32, rustbus::wire::ObjectPath<String>) = match parser.get2() {
                Ok(found) => found,
                Err(_) => continue,
            };
            let (_, result): (String, String) = match parser.get2() {
                Ok(found) => found,
                Err(_) => continue,
            };
            if ended.as_ref() == job.as_ref() {
                return match result.as_str() {
                    "done" => Ok(()),
                    other => Err(Error::new(STEP, format!("{method}: the job ended with {other:?}"))),
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_three_words() {
        let of = |path: &str| Scope::named("id", path, false).map(|scope| (scope.slice, scope.unit));
        let is = |slice: &str, unit: &str| (slice.to_string(), unit.to_string());
        assert_eq!(of("").expect("the usual"), is("system.slice", "cooperage-id.scope"));
        assert_eq!(of("a.slice:docker:web").expect("fine"), is("a.slice", "docker-web.scope"));
        assert_eq!(of(":docker:web").expect("fine"), is("system.slice", "docker-web.scope"));
        assert_eq!(of("a.slice::web").expect("fine"), is("a.slice", "web.scope"));
        for path in ["/a/b", "a.slice:docker", "a:b:c", "a.slice:b:", "a.slice:b:c/d", "a/b.slice:b:c"] {
            assert!(of(path).is_err(), "{path}");
        }
        assert_eq!(Scope::named("id", "", true).expect("the usual").slice, "user.slice");
    }
}
