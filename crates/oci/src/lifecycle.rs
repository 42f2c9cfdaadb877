//! The commands that end something, stop something or change something.

use std::os::fd::AsRawFd;
use std::str::FromStr;
use std::time::{Duration, Instant};

use cooperage::container::console::Console;
use cooperage::container::process::signals::{block_signals, open_process};
use cooperage::container::process::{Child, Status as Ended};
use cooperage::told::errors::{Error, Result};
use nix::errno::Errno;
use nix::sys::signal::Signal;
use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxPids, LinuxResources};

use crate::bundle::Bundle;
use crate::cli::{Delete, Global, Kill, Run, Update};
use crate::create::{console, create, keep_out_of_reach};
use crate::record::{Place, Record, Status, born, look};
use crate::{hooks, log, resources, start, systemd};

/// A container is asked to end and not forced to: whoever wants to force it says so himself.
pub const WITHOUT_END: Duration = Duration::from_secs(u32::MAX as u64);

/// `run`: the commands one after the other. The status is the command's, or nothing if it is not waited for.
pub fn run(global: &Global, args: &Run) -> Result<Option<Ended>> {
    let bundle = Bundle::load(&args.making.bundle)?;
    keep_out_of_reach(&bundle.linux)?;
    let own = match console(bundle.has_terminal(), args.making.console_socket.as_deref())? {
        Some(console) => console,
        None if args.detach => {
            return Err(Error::new(
                "run the container",
                "a terminal that nobody waits at needs a --console-socket",
            ));
        }
        None => Console::new()?,
    };
    let relays = bundle.has_terminal() && args.making.console_socket.is_none();
    let signals = if args.detach { None } else { Some(block_signals()?) };
    let created = create(global, &args.making, &args.id, &bundle, &own)?;
    if let Err(error) = start::open_gate(global, &created.place, &created.record) {
        let _ = kill_all(&created.record);
        let _ = remove(global, &created.place, &created.record);
        return Err(error);
    }
    let Some(signals) = signals else { return Ok(None) };
    // Others may have to do with it while it runs.
    drop(created.place);
    let child = Child::watch(created.newborn, signals);
    let child = if relays { child.relaying(own) } else { child };
    let ended = child.wait_or_stop(WITHOUT_END, || Ok(()));
    if !args.keep
        && let Ok(place) = Place::find(global, &args.id)
    {
        remove(global, &place, &created.record)?;
    }
    ended.map(Some)
}

// ANCHOR: kill
/// `kill`
pub fn kill(global: &Global, args: &Kill) -> Result<()> {
    let step = format!("send a signal to the container {:?}", args.id);
    let signal = signal(&args.signal)?;
    let (record, status) = look(global, &args.id)?;
    match status {
        Status::Stopped | Status::Creating if args.all => {
            record.cgroups.signal(signal);
            return Ok(());
        }
        // The words by which clients know that there is nothing left to do.
        Status::Stopped => return Err(Error::new(step, "container not running")),
        Status::Creating => return Err(Error::new(step, "it is being made")),
        _ => {}
    }
    let all = if args.all || (signal == libc::SIGKILL && !record.own_pids) {
        record.cgroups.signal(signal)
    } else {
        Vec::new()
    };
    // To each once: the first may be gone by now, or count its signals.
    if !all.contains(&record.process()) {
        send(&record, signal)
            .map_err(|errno| Error::call(&step, format!("pidfd_send_signal({signal})"), errno))?;
    }
    // A frozen process of version 1 does not even die.
    if signal == libc::SIGKILL && status == Status::Paused {
        record.cgroups.freeze(false)?;
    }
    Ok(())
}

/// Sends a signal to the first process, and to no other that has got its number meanwhile: a pidfd stays with its process.
fn send(record: &Record, signal: i32) -> nix::Result<()> {
    let pidfd = open_process(record.process())?;
    if born(record.pid) != Some(record.born) {
        return Err(Errno::ESRCH);
    }
    // SAFETY: numbers and a null pointer: no further information comes along.
    Errno::result(unsafe {
        let nothing = std::ptr::null::<libc::siginfo_t>();
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, nothing, 0)
    })
    .map(drop)
}
// ANCHOR_END: kill

/// A signal by its name or its number: also one that has only a number, as systemd in a container wants it, or none, which asks whether
/// the process is there.
fn signal(text: &str) -> Result<i32> {
    let name = text.to_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let (first, last) = (libc::SIGRTMIN(), libc::SIGRTMAX());
    let number = |text: &str| text.parse::<i32>().ok();
    let found = match name {
        "RTMIN" => Some(first),
        "RTMAX" => Some(last),
        _ => name
            .strip_prefix("RTMIN+")
            .and_then(|rest| first.checked_add(number(rest)?))
            .or_else(|| name.strip_prefix("RTMAX-").and_then(|rest| last.checked_sub(number(rest)?)))
            .or_else(|| number(text))
            .or_else(|| Signal::from_str(&format!("SIG{name}")).ok().map(|signal| signal as i32)),
    };
    found
        .filter(|number| (0..=last).contains(number))
        .ok_or_else(|| Error::new("send a signal", format!("{text:?} is no signal")))
}

// ANCHOR: delete
/// `delete`
pub fn delete(global: &Global, args: &Delete) -> Result<()> {
    let place = match Place::find(global, &args.id) {
        Err(error) if args.force && error.reason().contains("does not exist") => return Ok(()),
        found => found?,
    };
    let record = match place.read() {
        // Its maker was killed before it had written anything.
        Err(_) if args.force => return place.remove(),
        read => read?,
    };
    match place.status(&record) {
        Status::Stopped => {}
        // Whoever was making it has the place to himself until it is made. So he is gone, and what he has begun is not.
        Status::Creating => kill_all(&record)?,
        _ if args.force => kill_all(&record)?,
        // It has never begun.
        Status::Created => kill_all(&record)?,
        other => {
            let step = format!("delete the container {:?}", args.id);
            return Err(Error::new(step, format!("it is {}: it is not stopped", other.word())));
        }
    }
    remove(global, &place, &record)
}
// ANCHOR_END: delete

/// Kills all that is left of it, and waits until it is gone.
fn kill_all(record: &Record) -> Result<()> {
    let _ = send(record, libc::SIGKILL);
    record.cgroups.signal(libc::SIGKILL);
    if record.cgroups.is_frozen() {
        record.cgroups.freeze(false)?;
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    while born(record.pid) == Some(record.born) {
        let _ = nix::sys::wait::waitpid(record.process(), Some(nix::sys::wait::WaitPidFlag::WNOHANG));
        if Instant::now() > deadline {
            return Err(Error::new("end the container", "its first process does not die"));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Removes what is left of one that has ended.
fn remove(global: &Global, place: &Place, record: &Record) -> Result<()> {
    // Without a PID namespace the others do not end with the first.
    if !record.own_pids {
        record.cgroups.signal(libc::SIGKILL);
    }
    record.cgroups.destroy()?;
    if let Some(unit) = &record.scope {
        systemd::stop(global, unit);
    }
    place.remove()?;
    if let Some(all) = &record.hooks {
        let state = record.state(Status::Stopped);
        hooks::run_all("poststop", all.poststop(), &state, |error| {
            log::note(global, "warning", &error.to_string())
        });
    }
    Ok(())
}

/// `pause` and `resume`
pub fn freeze(global: &Global, id: &str, frozen: bool) -> Result<()> {
    let place = Place::find(global, id)?;
    let record = place.read()?;
    match (place.status(&record), frozen) {
        (Status::Running | Status::Created, true) | (Status::Paused, false) => record.cgroups.freeze(frozen),
        (other, _) => {
            let step = format!("{} the container {id:?}", if frozen { "pause" } else { "resume" });
            Err(Error::new(step, format!("it is {}", other.word())))
        }
    }
}

/// `update`
pub fn update(global: &Global, args: &Update) -> Result<()> {
    let place = Place::find(global, &args.id)?;
    let record = place.read()?;
    if place.status(&record) == Status::Stopped {
        return Err(Error::new(format!("update the container {:?}", args.id), "container not running"));
    }
    let resources = match args.resources.as_deref() {
        Some(file) if file.as_os_str() == "-" => {
            let mut text = Vec::new();
            std::io::Read::read_to_end(&mut std::io::stdin(), &mut text)
                .map_err(|error| Error::io("read the resources", "stdin", &error))?;
            resources::parse(&text)?
        }
        Some(file) => {
            let text = std::fs::read(file).map_err(|error| Error::io("read the resources", file, &error))?;
            resources::parse(&text)?
        }
        None => from_options(args),
    };
    if let Some(unit) = &record.scope {
        systemd::update(global, unit, &resources)?;
    }
    record.cgroups.set(&resources, false)
}

fn from_options(args: &Update) -> LinuxResources {
    let mut resources = LinuxResources::default();
    resources.set_devices(None);
    let mut memory = LinuxMemory::default();
    memory.set_limit(args.memory).set_reservation(args.memory_reservation).set_swap(args.memory_swap);
    if memory != LinuxMemory::default() {
        resources.set_memory(Some(memory));
    }
    let mut cpu = LinuxCpu::default();
    cpu.set_shares(args.cpu_share)
        .set_quota(args.cpu_quota)
        .set_period(args.cpu_period)
        .set_burst(args.cpu_burst);
    cpu.set_cpus(args.cpuset_cpus.clone()).set_mems(args.cpuset_mems.clone());
    if cpu != LinuxCpu::default() {
        resources.set_cpu(Some(cpu));
    }
    if let Some(limit) = args.pids_limit {
        let mut pids = LinuxPids::default();
        pids.set_limit(limit);
        resources.set_pids(Some(pids));
    }
    if let Some(weight) = args.blkio_weight {
        let mut disks = LinuxBlockIo::default();
        disks.set_weight(Some(weight));
        resources.set_block_io(Some(disks));
    }
    resources
}
