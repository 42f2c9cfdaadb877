//! Chapter 5: the network namespace, and the cable into it. See network_namespaces(7) and veth(4).
//!
//! A new network namespace holds a loopback device, switched off, and nothing else: no card, no
//! address, no route. The container is given a cable, a pair of veth devices: what goes in at one end
//! comes out at the other. One end is `eth0` inside; the other is plugged into a bridge outside, a
//! switch in software, and so are the cables of all other containers.
//!
//! ```text
//!     container            host
//!     eth0 10.83.0.2 ----- veth1f2e3d4c --+
//!                                         +-- cooperage0 10.83.0.1 -- NAT -- eth0 -- the world
//!     eth0 10.83.0.3 ----- vetha0b1c2d3 --+
//!     container
//! ```
//!
//! The bridge is made for the first container and goes with the last one. A runtime holds a shared lock
//! on a note about the network it is in; whoever gets it for itself alone is the last. The kernel gives
//! locks back, so this counts right after SIGKILL too.
//!
//! **An ordinary user** cannot make a link in the host's network, but in a network namespace of its own:
//! the hub. The user's first runtime makes one and moves into it, and the bridge lives there; the next
//! ones join it. The user's containers reach each other and the hub. They do not reach the host, nor
//! the world beyond: no link leads there, and only root could make one. (Chapter 8 has a program do it: see
//! [`uplink`].) Nor can they share a hub when
//! their runtimes started at the very same moment, and each made a user namespace of its own: then there
//! are two hubs, which know nothing of each other.
//!
//! IPv6 is not given: a container has a link-local address and no more.

use std::cell::Cell;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::FlockArg;
use serde::{Deserialize, Serialize};

use super::address::{self, Lease, Subnet};
use super::nat;
use super::netlink::{Link, Message, Netlink, Route};
use super::uplink::{self, Guardian, Uplink};
use crate::container::process::Child;
use crate::container::root::NewRoot;
use crate::container::state::claim::Claim;
use crate::container::state::directory::{list, lock, state_directory};
use crate::container::state::ledger::{self, Ledger};
use crate::container::state::pool;
use crate::container::sys::{self, CloneFlags};
use crate::container::user::namespace::{in_first_user_namespace, same_namespace};
use crate::container::uts;
use crate::told::errors::{Error, Result};
use crate::told::explain;

const BRIDGE: &str = "cooperage0";

/// What a container is connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// The bridge that all containers share
    Bridge,
    /// Everything that the host is connected to: no network namespace
    Host,
    /// Nothing but itself
    None,
}

/// A container's network, seen from the runtime.
pub struct Network {
    mode: Mode,
    resolver: String,
    port: Option<Port>,
}

/// A container's place at the bridge.
struct Port {
    netlink: Netlink,
    bridge: Link,
    subnet: Subnet,
    lease: Lease,
    note: Note,
    cable: String,
    plugged_in: Cell<bool>,
    uplink: Option<Uplink>,
}

impl Network {
    /// The runtime's half, before the child is made: the bridge is there, and an address on it reserved.
    pub fn new(ledger: &mut Ledger, mode: Mode) -> Result<Network> {
        Network::reserve(ledger, mode, false)
    }

    /// Chapter 8: does what [`Network::new`] does; and an ordinary user's containers have a way to the world, if this machine
    /// has a program for that.
    pub fn with_uplink(ledger: &mut Ledger, mode: Mode) -> Result<Network> {
        Network::reserve(ledger, mode, true)
    }

    fn reserve(ledger: &mut Ledger, mode: Mode, uplink: bool) -> Result<Network> {
        let port = match mode {
            Mode::Bridge => Some(Port::reserve(ledger.ordinary_user(), uplink)?),
            Mode::Host | Mode::None => None,
        };
        let uplink = port.as_ref().and_then(|port| port.uplink.as_ref());
        let reaches_nobody = mode == Mode::Bridge && ledger.ordinary_user();
        let resolver = match uplink {
            Some(uplink) => behind_uplink(&resolvers_in(RESOLV_CONF), uplink.resolver),
            None => resolver(mode, reaches_nobody),
        };
        Ok(Network { mode, resolver, port })
    }

    // ANCHOR: network-namespace
    /// The namespace that the child is made in.
    pub fn namespace(&self) -> CloneFlags {
        match self.mode {
            Mode::Bridge | Mode::None => CloneFlags::CLONE_NEWNET,
            Mode::Host => CloneFlags::empty(),
        }
    }
    // ANCHOR_END: network-namespace

    // ANCHOR: plug-in
    /// The runtime's half, once the child is made: the cable from the bridge into its namespace.
    pub fn plug_in(&self, child: &mut Child) -> Result<()> {
        let Some(port) = &self.port else { return Ok(()) };
        // Held open, it cannot vanish in between: a child that dies now takes the cable with it later.
        let namespace = child.namespace("net")?;
        let mac = address::mac(port.lease.address);
        let cable =
            Message::veth(&port.cable, port.bridge.index, port.bridge.mtu, "eth0", mac, namespace.as_fd());
        port.netlink.send("run a cable from the bridge into the container", &[cable])?;
        port.plugged_in.set(true);
        Ok(())
    }
    // ANCHOR_END: plug-in

    // ANCHOR: set-up-inside
    /// The child's half: its devices are switched on, and eth0 gets the address.
    pub fn set_up_inside(&self) -> Result<()> {
        if self.mode == Mode::Host {
            return Ok(());
        }
        let netlink = Netlink::open("ask the kernel for changes to the container's own network")?;
        let mut steps = vec![Message::up("lo")];
        if let Some(port) = &self.port {
            let why = "see the container's end of the cable";
            let eth0 = netlink
                .link(why, "eth0")?
                .ok_or_else(|| Error::new(why, "there is no eth0 in its network namespace"))?;
            turn_off_ipv6("speak no IPv6 with the neighbours, which nobody has set up", "eth0");
            steps.push(Message::address(&eth0, port.lease.address, port.subnet.prefix));
            steps.push(Message::up("eth0"));
            // Last, because it needs the route to the gateway, which comes with an address on a link
            // that is up.
            steps.push(Message::default_route(port.subnet.gateway()));
        }
        netlink.send("switch on the container's network", &steps)
    }
    // ANCHOR_END: set-up-inside

    /// The container's address: without one, what Debian writes into /etc/hosts in its place.
    pub fn address(&self) -> Ipv4Addr {
        self.port.as_ref().map_or(uts::NO_NETWORK, |port| port.lease.address)
    }

    /// What the container's /etc/resolv.conf says.
    pub fn resolv_conf(&self) -> &str {
        &self.resolver
    }

    /// Provides an /etc/resolv.conf inside.
    pub fn provide_resolver(&self, root: &NewRoot) -> Result<()> {
        root.provide_file("etc/resolv.conf", self.resolv_conf())
    }
}

impl Drop for Network {
    /// The end of the container: its cable, its address, and with the last one the bridge.
    fn drop(&mut self) {
        let Some(port) = self.port.take() else { return };
        if let Err(error) = port.give_back() {
            // The next run finds the note and tries again.
            explain::remark(&format!("left for the next run: {} ({})", error.step(), error.reason()));
        }
    }
}

impl Port {
    // ANCHOR: reserve-port
    fn reserve(ordinary_user: bool, wants_uplink: bool) -> Result<Port> {
        let lock = lock("network")?;
        let uplink = if ordinary_user { enter_hub(&lock, wants_uplink)? } else { None };
        let netlink = Netlink::open("ask the kernel for changes to links, addresses and routes")?;
        let note = Note::about_this_network(&lock)?;
        let reserved = (|| {
            let no_way_out = ordinary_user && uplink.is_none();
            let (bridge, subnet) = find_or_make_bridge(&netlink, &note, no_way_out, &lock)?;
            if uplink.is_some() && !note.read().nat {
                // The bridge is older than the way out.
                offer_nat(subnet, &note)?;
            }
            Ok((bridge, subnet, Lease::take(subnet, &lock)?, random_name()?))
        })();
        match reserved {
            Ok((bridge, subnet, lease, cable)) => {
                note.share()?;
                let plugged_in = Cell::new(false);
                Ok(Port { netlink, bridge, subnet, lease, note, cable, plugged_in, uplink })
            }
            Err(error) => {
                let _ = note.leave(&netlink, &lock);
                Err(error)
            }
        }
    }
    // ANCHOR_END: reserve-port

    // ANCHOR: give-back-port
    fn give_back(self) -> Result<()> {
        let lock = lock("network")?;
        if self.plugged_in.get() {
            if self.note.alone() {
                delete(&self.netlink, "take the cable away with the last container", &self.cable)?;
            } else {
                // To remove a link takes 15 ms and more: the kernel waits until no processor can be using it.
                // With the namespace that holds its other end it goes for nothing, in the background and some
                // moments from now. Until then nobody may meet the dead container at its old address.
                let off = Message::down(&self.cable);
                send_unless_gone(&self.netlink, "switch the cable off: the kernel removes it soon", off)?;
            }
        }
        self.lease.give_back(&lock);
        self.note.leave(&self.netlink, &lock)
    }
    // ANCHOR_END: give-back-port
}

/// The bridge, and its subnet. The lock keeps two runtimes from making it, or one from removing it
/// while the other puts a container there.
fn find_or_make_bridge(
    netlink: &Netlink,
    note: &Note,
    no_way_out: bool,
    lock: &Claim,
) -> Result<(Link, Subnet)> {
    if note.found && note.alone() {
        // Nobody lives here, so a killed runtime has left it. It may be half made.
        clear_up(netlink, note)?;
        note.clear()?;
        address::sweep(lock)?;
    }
    match find_bridge(netlink)? {
        Found::Ours(bridge, subnet) => Ok((bridge, subnet)),
        Found::Nothing => make_bridge(netlink, note, no_way_out),
        Found::Foreign => Err(Error::new(
            "make the bridge",
            format!("there is a link called {BRIDGE} already, and it is not one of ours"),
        )
        .remedy(format!("rename it, or remove it if nobody needs it: sudo ip link delete {BRIDGE}"))),
    }
}

enum Found {
    Ours(Link, Subnet),
    Foreign,
    Nothing,
}

/// A bridge is ours if its hardware address is the one that we give, which tells its subnet, too.
fn find_bridge(netlink: &Netlink) -> Result<Found> {
    let Some(link) = netlink.link("see whether the bridge is there", BRIDGE)? else {
        return Ok(Found::Nothing);
    };
    let subnet =
        address::CANDIDATES.into_iter().find(|subnet| link.mac == Some(address::mac(subnet.gateway())));
    Ok(match subnet {
        Some(subnet) if link.kind == "bridge" => Found::Ours(link, subnet),
        _ => Found::Foreign,
    })
}

// ANCHOR: make-bridge
fn make_bridge(netlink: &Netlink, note: &Note, no_way_out: bool) -> Result<(Link, Subnet)> {
    const WHY: &str = "make the bridge that all containers share";
    let routes = netlink.routes("see which subnets are taken, and where the world is")?;
    let mut taken = netlink.addresses("see which subnets are taken")?;
    taken.extend(routes.iter().map(|route| route.to).filter(|subnet| !subnet.is_everything()));
    let subnet = address::choose_subnet(&taken)?;

    netlink.send(WHY, &[Message::bridge(BRIDGE, address::mac(subnet.gateway()))])?;
    let missing = || Error::new(WHY, "someone has removed it again");
    let bridge = netlink.link("learn the bridge's number", BRIDGE)?.ok_or_else(missing)?;
    turn_off_ipv6("let no container tell the host by IPv6 which way to send", BRIDGE);

    // A container must not send larger packets than the next link can carry: many a firewall swallows
    // the message that would tell it so, and then large answers never come.
    let upstream = upstream(netlink, &routes)?;
    let mtu = upstream.as_ref().map_or(bridge.mtu, |upstream| bridge.mtu.min(upstream.mtu));
    let gateway = Message::address(&bridge, subnet.gateway(), subnet.prefix);
    let why = "give the bridge an address, the containers' gateway, and switch it on";
    netlink.send(why, &[gateway, Message::up(BRIDGE).mtu(mtu)])?;

    match upstream {
        _ if no_way_out => {
            explain::remark("no NAT: from an ordinary user's network no link leads to the world")
        }
        None => explain::remark("no NAT: this host has no link to the world"),
        Some(_) => offer_nat(subnet, note)?,
    }
    Ok((Link { mtu, ..bridge }, subnet))
}
// ANCHOR_END: make-bridge

/// Sets NAT up, if it can be had. Without it, containers still reach each other.
fn offer_nat(subnet: Subnet, note: &Note) -> Result<()> {
    let Some(nft) = nat::program() else {
        explain::remark("no NAT: the program nft is missing (apt install nftables)");
        return Ok(());
    };
    if let Err(error) = set_up_nat(&nft, subnet, note) {
        explain::remark(&format!("no NAT ({}), but everything else works", error.reason()));
        let _ = take_back(&note.read());
        note.write(&Changes::default())?;
    }
    Ok(())
}

/// The link by which this host reaches the world: its default route's, or else any other machine's.
fn upstream(netlink: &Netlink, routes: &[Route]) -> Result<Option<Link>> {
    const LOOPBACK: u32 = 1;
    let outward =
        || routes.iter().filter(|route| route.unicast && route.link.is_some_and(|link| link != LOOPBACK));
    let route = outward().find(|route| route.to.is_everything()).or_else(|| outward().next());
    match route.and_then(|route| route.link) {
        Some(index) => netlink.link_by_index("see how large a packet may be on the way out", index),
        None => Ok(None),
    }
}

// ANCHOR: turn-off-ipv6
/// Without this the host would believe a container that calls itself the router for IPv6, and send its
/// own traffic there (CVE-2020-10749). And a container would speak IPv6 with all the others, by addresses that
/// nobody gave it (CVE-2024-32473).
fn turn_off_ipv6(why: &str, link: &str) {
    let setting = format!("/proc/sys/net/ipv6/conf/{link}/disable_ipv6");
    match sys::write_file(why, Path::new(&setting), "1") {
        // A kernel without IPv6 has nothing to turn off.
        Err(error) if error.errno() != Some(Errno::ENOENT) => {
            explain::remark(&format!("{link} keeps its IPv6: {}", error.reason()))
        }
        _ => {}
    }
}
// ANCHOR_END: turn-off-ipv6

/// Each change is noted before it is made.
fn set_up_nat(nft: &Path, subnet: Subnet, note: &Note) -> Result<()> {
    let mut changes = Changes { nat: true, ..note.read() };
    note.write(&changes)?;
    nat::set_up(nft, subnet, BRIDGE)?;
    let former = nat::forwarding()?;
    if former != "1" {
        changes.ip_forward = Some(former);
        note.write(&changes)?;
        nat::set_forwarding("let this host hand on what its containers send", "1")?;
    }
    Ok(())
}

/// Takes back what was changed for the bridge, and removes it.
fn demolish(netlink: &Netlink, note: &Note) -> Result<()> {
    take_back(&note.read())?;
    match find_bridge(netlink)? {
        Found::Ours(..) => delete(netlink, "remove the bridge with its last container", BRIDGE),
        Found::Foreign | Found::Nothing => Ok(()),
    }
}

/// Demolishes a bridge that a killed runtime left. True if it was there.
fn clear_up(netlink: &Netlink, note: &Note) -> Result<bool> {
    // The bridge is made first and removed last. So if there is none, nothing else was left either: the
    // note is about a network namespace that is gone, whose number this one has got.
    let there = matches!(find_bridge(netlink)?, Found::Ours(..));
    if there {
        demolish(netlink, note)?;
    }
    Ok(there)
}

fn take_back(changes: &Changes) -> Result<()> {
    if let Some(former) = &changes.ip_forward {
        nat::set_forwarding("put forwarding back to what it was", former)?;
    }
    match nat::program() {
        Some(nft) if changes.nat => nat::remove(&nft),
        _ => Ok(()),
    }
}

fn delete(netlink: &Netlink, why: &str, name: &str) -> Result<()> {
    send_unless_gone(netlink, why, Message::delete(name))
}

fn send_unless_gone(netlink: &Netlink, why: &str, message: Message) -> Result<()> {
    match netlink.send(why, &[message]) {
        Err(error) if error.errno() == Some(Errno::ENODEV) => Ok(()), // it has gone by itself
        result => result,
    }
}

/// What was changed on the host for the bridge's sake.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Changes {
    nat: bool,
    ip_forward: Option<String>,
}

/// A note about one network namespace, named by its number. Every runtime whose container is at the
/// bridge there holds a lock on it.
struct Note {
    claim: Claim,
    /// Was it there already?
    found: bool,
}

impl Note {
    fn about_this_network(_: &Claim) -> Result<Note> {
        const STEP: &str = "note that there is a bridge";
        let path = note_path(&own_namespace()?)?;
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(|error| Error::io(STEP, directory, &error))?;
        }
        let found = path.exists();
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| Error::io(STEP, &path, &error))?;
        let claim = Claim::on(file, &path, FlockArg::LockShared)?
            .ok_or_else(|| Error::new(STEP, "somebody else has locked the note"))?;
        Ok(Note { claim, found })
    }

    /// Has it no other holder? This gives up the lock that others see: see `share`.
    fn alone(&self) -> bool {
        self.claim.is_last()
    }

    /// From now on nobody else is alone.
    fn share(&self) -> Result<()> {
        self.claim.share()
    }

    /// This runtime needs the bridge no more. If nobody does, it goes.
    fn leave(self, netlink: &Netlink, lock: &Claim) -> Result<()> {
        if self.alone() {
            demolish(netlink, &self)?;
            self.remove();
            address::sweep(lock)?;
        }
        Ok(())
    }

    fn read(&self) -> Changes {
        let text = fs::read_to_string(self.claim.path()).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).next_back().unwrap_or_default()
    }

    /// Adds a line; the last one counts.
    fn write(&self, changes: &Changes) -> Result<()> {
        let failed =
            |error: std::io::Error| Error::io("note what is about to change", self.claim.path(), &error);
        let mut line = serde_json::to_vec(changes).map_err(|error| failed(error.into()))?;
        line.push(b'\n');
        self.claim.file().write_all(&line).map_err(failed)
    }

    fn clear(&self) -> Result<()> {
        self.claim
            .file()
            .set_len(0)
            .map_err(|error| Error::io("note that nothing is changed yet", self.claim.path(), &error))
    }

    fn remove(self) {
        pool::give_back(self.claim);
    }
}

fn notes() -> Result<PathBuf> {
    Ok(state_directory()?.join("networks"))
}

fn note_path(namespace: &File) -> Result<PathBuf> {
    let found = namespace.metadata().map_err(|error| Error::io(LOOK, "/proc/self/ns/net", &error))?;
    Ok(notes()?.join(found.ino().to_string()))
}

const LOOK: &str = "see which network this is";

fn own_namespace() -> Result<File> {
    File::open("/proc/self/ns/net").map_err(|error| Error::io(LOOK, "/proc/self/ns/net", &error))
}

/// Removes what killed runtimes left: a bridge that no living container is at, and what was changed for
/// it. True if there was one. What this process may not remove is kept for one that may. If `somebody_died`, an
/// address may be free again.
pub fn sweep(somebody_died: bool) -> Result<bool> {
    let notes = notes()?;
    if !notes.exists() {
        return Ok(false);
    }
    let lock = lock("network")?;
    if somebody_died {
        address::sweep(&lock)?;
    }
    let mut swept = false;
    for path in list(&notes) {
        let Some(claim) = Claim::inherit(&path) else { continue };
        let note = Note { claim, found: true };
        let cleared = if path == note_path(&own_namespace()?)? {
            Netlink::open("remove what a killed runtime left").and_then(|netlink| clear_up(&netlink, &note))
        } else {
            // Another network namespace, and most likely gone with its last process: an ordinary user's
            // hub. There is something to keep the note for only if a setting waits to be put back.
            let changes = note.read();
            if changes.nat && in_first_user_namespace()? { continue } else { Ok(false) }
        };
        if let Ok(there_was_one) = cleared {
            swept |= there_was_one;
            note.remove();
            address::sweep(&lock)?;
        }
    }
    Ok(swept)
}

// ANCHOR: enter-hub
/// Moves this runtime into the network namespace that this user's containers share, or into a new one. With a way to the
/// world, if that is wanted and can be had.
fn enter_hub(_: &Claim, wants_uplink: bool) -> Result<Option<Uplink>> {
    for pid in ledger::living()? {
        let open = |kind| File::open(format!("/proc/{pid}/ns/{kind}"));
        let (Ok(user), Ok(network)) = (open("user"), open("net")) else { continue };
        // There is a note about each hub, and none about the host's own network.
        let is_hub = same_namespace(&user, "user") && note_path(&network)?.exists();
        let why = "join the hub, the network that this user's other containers are in";
        if !is_hub {
            continue;
        }
        let uplink = if wants_uplink { Uplink::of(&network)? } else { None };
        // Once we are in the hub, nobody of ours is outside.
        let guardian = if wants_uplink && uplink.is_none() { hire_guardian()? } else { None };
        if sys::setns(why, &network, CloneFlags::CLONE_NEWNET).is_ok() {
            return match guardian {
                Some(guardian) => guardian.start(&network),
                None => Ok(uplink),
            };
        }
    }
    let guardian = if wants_uplink { hire_guardian()? } else { None };
    let why = "have a network in which an ordinary user may make a bridge: the hub";
    sys::unshare(why, CloneFlags::CLONE_NEWNET)?;
    Netlink::open("ask the kernel for changes to the hub")?
        .send("switch on the hub's loopback device", &[Message::up("lo")])?;
    guardian.map_or(Ok(None), |guardian| guardian.start(&own_namespace()?))
}

fn hire_guardian() -> Result<Option<Guardian>> {
    match uplink::program() {
        Ok(program) => Guardian::hire(program).map(Some),
        Err(error) => {
            explain::remark(&format!("no way to the world for an ordinary user: {}", error.reason()));
            Ok(None)
        }
    }
}
// ANCHOR_END: enter-hub

/// A name that no other cable has, nor had until a moment ago: a veth whose container was killed is
/// still there for a while.
fn random_name() -> Result<String> {
    let mut bytes = [0; 4];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|error| Error::io("choose a name for the cable", "/dev/urandom", &error))?;
    Ok(format!("veth{:08x}", u32::from_ne_bytes(bytes)))
}

const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Where systemd-resolved says which servers it asks itself.
const BEHIND_RESOLVED: &str = "/run/systemd/resolve/resolv.conf";

/// The text of such a file; none if there is no file.
fn resolvers_in(path: &str) -> String {
    fs::read(path).map(|text| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default()
}

fn resolver(mode: Mode, reaches_nobody: bool) -> String {
    let hosts = resolvers_in(RESOLV_CONF);
    match mode {
        Mode::Host => hosts,
        // An empty list fails immediately. One that cannot be reached would keep every program waiting.
        _ if reaches_nobody => servers_within_reach(&hosts, |_| false),
        _ if asks_resolved(&hosts) => servers_within_reach(&resolvers_in(BEHIND_RESOLVED), not_loopback),
        _ => servers_within_reach(&hosts, not_loopback),
    }
}

/// The host's file, with the server of the uplink in place of the host's own; if those are none, there is nobody to ask.
fn behind_uplink(hosts: &str, resolver: Ipv4Addr) -> String {
    if nameservers(hosts).next().is_none() {
        return servers_within_reach(hosts, |_| false);
    }
    let rest = hosts.lines().filter(|line| nameserver(line).is_none()).flat_map(|line| [line, "\n"]);
    rest.collect::<String>() + &format!("nameserver {resolver}\n")
}

/// 127.0.0.53 is systemd-resolved on this host: in the container's network nobody is there.
fn asks_resolved(resolv_conf: &str) -> bool {
    nameservers(resolv_conf).any(|server| server == "127.0.0.53")
}

/// A container has its own loopback, and no IPv6.
fn not_loopback(server: &str) -> bool {
    server.parse::<Ipv4Addr>().is_ok_and(|address| !address.is_loopback() && !address.is_unspecified())
}

// ANCHOR: servers-within-reach
/// The file without the nameservers that cannot be reached. See resolv.conf(5).
fn servers_within_reach(resolv_conf: &str, within_reach: impl Fn(&str) -> bool) -> String {
    let mut kept: String = resolv_conf
        .lines()
        .filter(|line| nameserver(line).is_none_or(&within_reach))
        .flat_map(|line| [line, "\n"])
        .collect();
    if nameservers(&kept).next().is_none() {
        kept += "# None of the host's nameservers can be reached from this container's network.\n";
    }
    kept
}
// ANCHOR_END: servers-within-reach

fn nameservers(resolv_conf: &str) -> impl Iterator<Item = &str> {
    resolv_conf.lines().filter_map(nameserver)
}

fn nameserver(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace();
    (words.next() == Some("nameserver")).then(|| words.next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nameservers_that_a_container_can_ask_are_kept() {
        let hosts = "# by hand\nsearch example.org\nnameserver 127.0.0.1\nnameserver 192.0.2.53\n\
                     nameserver ::1\nnameserver fe80::1%eth0\nnameserver\t198.51.100.1 # second\noptions ndots:2";
        let inside = "# by hand\nsearch example.org\nnameserver 192.0.2.53\n\
                      nameserver\t198.51.100.1 # second\noptions ndots:2\n";
        assert_eq!(servers_within_reach(hosts, not_loopback), inside);
    }

    #[test]
    fn an_uplink_is_asked_in_place_of_the_hosts_servers() {
        let inside = |hosts| behind_uplink(hosts, Ipv4Addr::new(169, 254, 1, 1));
        let hosts = "search example.org\nnameserver 127.0.0.53\nnameserver 192.0.2.1\noptions ndots:2";
        assert_eq!(inside(hosts), "search example.org\noptions ndots:2\nnameserver 169.254.1.1\n");
        assert!(inside("search example.org\n").contains("# None of the host"));
    }

    #[test]
    fn a_file_that_names_none_says_so() {
        for hosts in ["", "nameserver 127.0.0.1", "nameserver\n", "nameserver ::1\n"] {
            let inside = servers_within_reach(hosts, not_loopback);
            assert!(inside.starts_with("# None of the host"), "{hosts:?}: {inside:?}");
        }
    }

    #[test]
    fn systemd_resolved_is_known_by_its_address() {
        assert!(asks_resolved("nameserver 127.0.0.53\noptions edns0 trust-ad\n"));
        assert!(!asks_resolved("# nameserver 127.0.0.53\nnameserver 127.0.0.1\n"));
    }

    #[test]
    fn cables_have_names_that_a_link_can_have() {
        let name = random_name().expect("a name");
        assert!(name.len() < 16 && name.starts_with("veth"), "{name}");
    }
}
