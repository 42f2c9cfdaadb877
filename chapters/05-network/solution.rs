//! Exercise 5: a network namespace.
//!
//! A runtime like chapter 5's, with one option more: `--publish HOSTPORT:PORT` lets a server inside be
//! reached at a port of the host.
//!
//!     cargo run --bin exercise05 -- --network none -- ping -c 1 127.0.0.1
//!     cargo run --bin exercise05 -- --publish 8080:80 -- httpd -f
//!
//! Try it in the lab (`cargo run --bin lab`): there the bridge that you make goes with the lab.
//!
//! The kernel is asked for links and addresses through netlink, see rtnetlink(7): [`ask`] sends a request,
//! and below it is what requests are made of. You may as well start ip(8) for it: only what comes of it
//! counts. What is yours says `todo!`.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::process::ExitCode;
use std::str::FromStr;

use clap::Parser;
use cooperage::container::host::Host;
use cooperage::container::ledger;
use cooperage::container::network::Mode;
use cooperage::container::overlay::Overlay;
use cooperage::container::process::{self, Status};
use cooperage::container::sys::{self, CloneFlags};
use cooperage::container::{ipc, mount, root, uts};
use cooperage::told::errors::{Error, Result};
use cooperage::workshop::cli;
use cooperage::workshop::rootfs::Rootfs;
use cooperage::workshop::task::as_far_as_written;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

/// The bridge that all containers of this program share, and its address.
const BRIDGE: &str = "exercise0";
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 84, 0, 1);
const PREFIX: u8 = 24;

/// Run a command with a network of its own.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: cli::Common,
    #[command(flatten)]
    mounts: cli::Mounts,
    #[command(flatten)]
    names: cli::Names,
    #[command(flatten)]
    networks: cli::Networks,

    /// Let a port of the host lead to a port of the container
    #[arg(long, value_name = "HOSTPORT:PORT")]
    publish: Vec<Ports>,
}

/// A port of the host and the container's port that it leads to.
#[derive(Clone, Copy)]
struct Ports {
    host: u16,
    container: u16,
}

impl FromStr for Ports {
    type Err = String;

    fn from_str(text: &str) -> Result<Ports, String> {
        let ports = text.split_once(':').and_then(|(host, container)| {
            Some(Ports { host: host.parse().ok()?, container: container.parse().ok()? })
        });
        ports.ok_or_else(|| format!("{text:?} is not HOSTPORT:PORT, such as 8080:80"))
    }
}

fn main() -> ExitCode {
    cli::exit_with(run(&Args::parse()))
}

fn run(args: &Args) -> Result<Status> {
    args.common.begin();
    let mut host = Host::enter()?;
    let mode = args.networks.network;
    if host.ordinary_user() && mode == Mode::Bridge {
        let why = "have a network in which an ordinary user may make links: not the host's";
        sys::unshare(why, CloneFlags::CLONE_NEWNET)?;
    }
    let rootfs = Rootfs::find(args.common.rootfs.as_deref())?;
    let overlay = Overlay::new(&mut host, rootfs.path(), args.mounts.upper.as_deref())?;
    let hostname = args.names.hostname()?;

    let mut namespaces = CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC;
    if mode != Mode::Host {
        namespaces |= CloneFlags::CLONE_NEWNET;
    }
    let mut child = process::spawn(namespaces, |parent| {
        mount::make_private()?;
        let root = overlay.mount()?;
        mount::furnish(&root)?;
        ipc::mount_mqueue(&root)?;
        uts::set_hostname(&hostname)?;
        uts::provide_names(&root, &hostname, uts::NO_NETWORK)?;
        for volume in &args.mounts.volumes {
            volume.mount(&root)?;
        }
        root::pivot_into(&root)?;
        parent.until_released()?;
        if mode != Mode::Host {
            as_far_as_written("5.1", switch_on_loopback)?;
        }
        process::exec(&args.common.command)
    })?;

    let mut place = None; // kept to the end: with it goes the container's right to its address
    if mode == Mode::Bridge {
        let (namespace, cable) = (child.namespace("net")?, format!("cable{}", std::process::id()));
        as_far_as_written("5.2", || lay_cable(&cable, &namespace))?;
        let mut plug_in = || {
            place = Some(connect(&cable, &namespace)?);
            Ok(())
        };
        // What is published leads to an address: there is no going on without one.
        if args.publish.is_empty() { as_far_as_written("5.3", plug_in)? } else { plug_in()? }
    }
    for ports in &args.publish {
        let missing = || Error::new("publish a port", "the container has no address");
        publish(*ports, place.as_ref().ok_or_else(missing)?.address)?;
    }
    child = child.release()?;
    child.wait()
}

/// Task 5.1 (4 points, one star, 10 minutes): loopback that answers.
///
/// This is called inside, by the process that becomes the command. The network namespace is new, and holds
/// one device: lo, number 1.
///
/// Done when, with `--network none`, a program inside can talk to another at 127.0.0.1.
fn switch_on_loopback() -> Result<()> {
    // answer 5.1
    ask("switch on lo", RTM_NEWLINK, 0, &[link(1, IFF_UP)])
    // end of answer 5.1
}

/// Task 5.2 (5 points, two stars, 30 minutes): the cable.
///
/// This is called on the host. `namespace` is the network namespace of the container, which is waiting. A
/// veth pair is a cable: what goes in at one end comes out at the other. [`inside`] may be of use.
///
/// Done when the container has a device named eth0 that is switched on, whose other end is on the host, named
/// `cable` and switched on as well; and when the host does not have the container's end, under eth0 or any
/// other name: one cable, one end each. (Addresses come next.)
fn lay_cable(cable: &str, namespace: &File) -> Result<()> {
    // answer 5.2
    let target = namespace.as_raw_fd().to_ne_bytes();
    let peer = [link(0, 0), name("eth0"), attribute(IFLA_NET_NS_FD, &target)].concat();
    let data = attribute(IFLA_INFO_DATA, &attribute(VETH_INFO_PEER, &peer));
    let info = attribute(IFLA_LINKINFO, &[attribute(IFLA_INFO_KIND, b"veth"), data].concat());
    let request = [link(0, IFF_UP), name(cable), info];
    ask("lay a cable into the container", RTM_NEWLINK, CREATE, &request)?;
    inside(namespace, || ask("switch on eth0", RTM_NEWLINK, 0, &[link(index("eth0")?, IFF_UP)]))
    // end of answer 5.2
}

/// A container's place at the bridge.
struct Place {
    /// Its address.
    address: Ipv4Addr,
    /// Whatever else has to be kept as long as the container lives.
    _claim: Option<Flock<File>>,
}

/// Task 5.3 (6 points, three stars, 45 minutes): containers that reach each other.
///
/// This is called on the host; the container is waiting. Plug `cable` into the bridge named [`BRIDGE`], which
/// has the address [`GATEWAY`] and is there already if this is not the first container; and give eth0 inside
/// an address of the same subnet that no other container has. [`inside`] takes a step in there. Other
/// runtimes do the same at other times, and end when they like. There is a directory for notes:
/// [`ledger::state_directory`].
///
/// Done when containers and host reach each other, any two of them; when no two running containers have the same
/// address, and none has the host's; and when all this is still so after some have ended and others have come.
fn connect(cable: &str, namespace: &File) -> Result<Place> {
    // answer 5.3
    let notes = ledger::state_directory()?;
    if index(BRIDGE).is_err() {
        let info = attribute(IFLA_LINKINFO, &attribute(IFLA_INFO_KIND, b"bridge"));
        match ask("make the bridge", RTM_NEWLINK, CREATE, &[link(0, 0), name(BRIDGE), info]) {
            Err(error) if error.errno() == Some(Errno::EEXIST) => {} // another was quicker
            result => result?,
        }
    }
    let bridge = index(BRIDGE)?;
    match give_address(bridge, GATEWAY) {
        Err(error) if error.errno() == Some(Errno::EEXIST) => {} // it has it
        result => result?,
    }
    ask("switch on the bridge", RTM_NEWLINK, 0, &[link(bridge, IFF_UP)])?;
    let master = attribute(IFLA_MASTER, &bridge.to_ne_bytes());
    ask("plug the cable in", RTM_NEWLINK, 0, &[link(index(cable)?, 0), master])?;

    // An address is taken as long as someone holds the lock on the file named like it. The kernel gives the
    // lock back when its holder ends.
    for number in 2..255 {
        let address = Ipv4Addr::from_bits(GATEWAY.to_bits() - 1 + number);
        let path = notes.join(format!("exercise-{address}"));
        let file = File::create(&path).map_err(|error| Error::io("claim an address", &path, &error))?;
        if let Ok(claim) = Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            inside(namespace, || give_address(index("eth0")?, address))?;
            return Ok(Place { address, _claim: Some(claim) });
        }
    }
    Err(Error::new("claim an address", "all are taken"))
    // end of answer 5.3
}

/// Task 5.4 (5 points, two stars, 30 minutes): publish a port.
///
/// This is called on the host once for each `--publish`, before the command starts; after it the runtime waits for
/// the container's end, so whatever has to go on working must do so by itself. The container has `address`.
///
/// Done when anyone who connects to port `ports.host` on the host, at 127.0.0.1 for example, talks to the server at
/// port `ports.container` inside: one after the other and several at the same time, both ways, each side told when
/// the other has no more to say; and when the port is free again once the container has ended.
fn publish(ports: Ports, address: Ipv4Addr) -> Result<()> {
    // answer 5.4
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, ports.host))
        .map_err(|error| Error::io("publish a port", format!("port {}", ports.host), &error))?;
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            std::thread::spawn(move || relay(client, address, ports.container));
        }
    });
    Ok(())
    // end of answer 5.4
}

// answer 5.4
use std::net::{Shutdown, TcpListener, TcpStream};

/// Hands on what each side says to the other, until both have no more to say.
fn relay(client: TcpStream, address: Ipv4Addr, port: u16) -> std::io::Result<()> {
    let server = TcpStream::connect((address, port))?;
    let one_way = |mut from: TcpStream, mut to: TcpStream| {
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        })
    };
    one_way(client.try_clone()?, server.try_clone()?);
    one_way(server, client);
    Ok(())
}
// end of answer 5.4

// answer 5.3
/// Gives a link an address; the kernel adds the route to the subnet by itself.
fn give_address(link: u32, address: Ipv4Addr) -> Result<()> {
    let local = attribute(IFA_LOCAL, &address.octets());
    ask("give a link an address", RTM_NEWADDR, CREATE, &[address_of(link, PREFIX), local])
}
// end of answer 5.3

// From here on: netlink, for your use.

/// The number of a link of the network namespace that one is in.
fn index(name: &str) -> Result<u32> {
    nix::net::if_::if_nametoindex(name)
        .map_err(|errno| Error::call(format!("find the link {name}"), "if_nametoindex()", errno))
}

/// Takes a step in another network namespace: [`ask`] and [`index`] are about that one then.
fn inside<T: Send>(namespace: &File, step: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    // A network namespace is a thread's own affair.
    let visit = || {
        sys::setns("take a step in the container's network", namespace, CloneFlags::CLONE_NEWNET)?;
        step()
    };
    let gone = |_| Err(Error::new("take a step in the container's network", "it panicked"));
    std::thread::scope(|scope| scope.spawn(visit).join().unwrap_or_else(gone))
}

// Requests.
const RTM_NEWLINK: u16 = 16; // make a link, or change one that is there: linkinfo's number says which
const RTM_NEWADDR: u16 = 20; // give a link an address
/// What to say with a request that makes something new: it must not be there yet.
const CREATE: u16 = 0x400 | 0x200; // NLM_F_CREATE | NLM_F_EXCL

// Attributes of a link.
const IFLA_IFNAME: u16 = 3; // its name
const IFLA_MASTER: u16 = 10; // the number of the bridge that it is plugged into
const IFLA_LINKINFO: u16 = 18; // what kind of link, which is attributes again:
const IFLA_INFO_KIND: u16 = 1; //     the kind: veth, bridge
const IFLA_INFO_DATA: u16 = 2; //     what only this kind has, attributes again. Of a veth:
const VETH_INFO_PEER: u16 = 1; //         the other end, a link with its attributes: as in a request
const IFLA_NET_NS_FD: u16 = 28; // the network namespace to put it into, an open file's number
/// A flag: the link is switched on.
const IFF_UP: u32 = 1;
// Attributes of an address.
const IFA_LOCAL: u16 = 2; // the address itself, four bytes

/// The start of a request about the link with this number: 0 for one that is not there yet. `flags` is
/// [`IFF_UP`] to switch it on, or 0.
fn link(index: u32, flags: u32) -> Vec<u8> {
    let [index, flags] = [index, flags].map(u32::to_ne_bytes);
    [[0; 4], index, flags, flags].concat() // an ifinfomsg: the last is which flags to change
}

/// The start of a request about an address of the link with this number. The first `prefix` bits of the
/// address are the subnet's.
fn address_of(index: u32, prefix: u8) -> Vec<u8> {
    const AF_INET: u8 = 2;
    [[AF_INET, prefix, 0, 0], index.to_ne_bytes()].concat() // an ifaddrmsg
}

/// A number, a length and a value. Several attributes are written one after the other: `concat()`.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = 4 + value.len();
    let mut bytes = [(length as u16).to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend_from_slice(value);
    bytes.resize(length.next_multiple_of(4), 0);
    bytes
}

/// The attribute with a link's name.
fn name(name: &str) -> Vec<u8> {
    attribute(IFLA_IFNAME, &[name.as_bytes(), b"\0"].concat())
}

/// Sends a request, and returns what the kernel says to it. It starts with [`link`] or [`address_of`], and
/// attributes follow.
fn ask(why: &str, kind: u16, flags: u16, request: &[Vec<u8>]) -> Result<()> {
    const REQUEST_AND_ACK: u16 = 1 | 4;
    let body = request.concat();
    let mut message = (16 + body.len() as u32).to_ne_bytes().to_vec();
    for half in [kind, flags | REQUEST_AND_ACK, 1, 0, 0, 0] {
        message.extend_from_slice(&half.to_ne_bytes()); // type, flags; sequence and port, two halves each
    }
    message.extend_from_slice(&body);
    let failed = |errno| Error::call(why, "netlink", errno);
    let protocol = SockProtocol::NetlinkRoute;
    let kernel =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol).map_err(failed)?;
    send(kernel.as_raw_fd(), &message, MsgFlags::empty()).map_err(failed)?;
    let mut answer = [0; 4096];
    recv(kernel.as_raw_fd(), &mut answer, MsgFlags::empty()).map_err(failed)?;
    // After the header of 16 bytes comes an errno, negative, or 0.
    match i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]) {
        0 => Ok(()),
        errno => Err(failed(Errno::from_raw(-errno))),
    }
}
