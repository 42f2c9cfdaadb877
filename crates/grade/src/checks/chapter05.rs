//! The checks of chapter 5.
//!
//! They look from inside the container's network: a thread enters it, and is a program there as any other.
//! So no tool is needed in the container's root filesystem.

use std::fs::{self, File};
use std::io::{Error, ErrorKind, Read, Result as IoResult, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sched::CloneFlags;

use cooperage::container::netlink::Netlink;

use crate::check::{Check, Failure, Session, Trial, namespace, status_of};

/// In the order of the tasks.
pub const CHECKS: &[Check] = &[
    Check {
        task: "5.1",
        explain: "starts a container with --network none; enters its network, serves at 127.0.0.1 and talks to that",
        needs: &["network-namespace"],
        run: loopback,
    },
    Check {
        task: "5.2",
        explain: "starts a container; looks for eth0 in its network, and on the host for the one new device that is its \
                  other end; both must be on; the host must not have the container's end; and when the container has \
                  ended, not the other either",
        needs: &["network-namespace", "veth"],
        run: cable,
    },
    Check {
        task: "5.3",
        explain: "starts two containers; each connects to a server in the other, and the host to one; compares their \
                  addresses; starts a third, ends the first, starts a fourth, and compares and connects again",
        needs: &["network-namespace", "veth", "bridge"],
        run: containers_reach_each_other,
    },
    Check {
        task: "5.4",
        explain: "starts a container with --publish and random ports; serves inside; connects to 127.0.0.1 on the host, \
                  several times, twice at once, with half a megabyte; and tries the port again after the end",
        needs: &["network-namespace", "veth", "bridge"],
        run: published,
    },
];

const GAVE_UP: &str = "the runtime gave up before the command could run: its words on stderr name the step";

/// How long a connection or an answer may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// What the exercise looks at: of the tasks that are not written yet only this one matters.
fn looking_at(trial: &mut Trial, task: &str) {
    trial.set_variable("COOPERAGE_TASK", task);
}

/// A container that runs, and a process in its network.
struct Container {
    session: Session,
    pid: i32,
}

impl Container {
    /// `lesson` is for a runtime that gives up before the command runs.
    fn start(trial: &mut Trial, args: &[&str], lesson: &str) -> Result<Container, Failure> {
        let session = trial.start(args, "").map_err(|failure| {
            let gave_up = failure.saw.starts_with("status 125") || failure.saw.starts_with("status 101");
            let lesson = if gave_up { lesson.to_string() } else { failure.lesson.clone() };
            Failure { lesson, ..failure }
        })?;
        let own = std::process::id() as i32;
        let all = session.descendants();
        let is_first = |pid: &i32| {
            namespace(*pid, "pid") != namespace(own, "pid")
                && status_of(*pid, "NSpid").last().is_some_and(|last| last == "1")
        };
        let first = all.iter().find(|pid| is_first(pid)).or(all.last());
        match first {
            Some(&pid) if namespace(pid, "net") != namespace(own, "net") => Ok(Container { session, pid }),
            _ => Err(session.fail(
                "the command is in a network namespace of its own",
                "it is in the host's",
                "CLONE_NEWNET, of unshare(2) or clone(2), gives it one: until then its network is the host's",
            )),
        }
    }

    /// Does something in the container's network.
    fn inside<T: Send>(&self, what: impl FnOnce() -> IoResult<T> + Send) -> IoResult<T> {
        let pid = self.pid;
        let visit = || {
            let theirs = File::open(format!("/proc/{pid}/ns/net"))?;
            nix::sched::setns(theirs, CloneFlags::CLONE_NEWNET)?;
            what()
        };
        std::thread::scope(|scope| {
            let gone = |_| Err(Error::other("the thread panicked"));
            scope.spawn(visit).join().unwrap_or_else(gone)
        })
    }

    /// Its devices, as "lo (on)" and "eth0 (off)".
    fn devices(&self) -> String {
        let describe = || {
            let mut seen: Vec<String> = Vec::new();
            for link in getifaddrs()? {
                let on = if link.flags.contains(InterfaceFlags::IFF_UP) { "on" } else { "off" };
                let text = format!("{} ({on})", link.interface_name);
                if !seen.contains(&text) {
                    seen.push(text);
                }
            }
            Ok(seen.join(", "))
        };
        self.inside(describe).unwrap_or_else(|error| error.to_string())
    }

    /// The address of eth0.
    fn address(&self) -> Result<Ipv4Addr, Failure> {
        let find =
            || Ok(addresses()?.into_iter().find(|(name, _)| name == "eth0").map(|(_, address)| address));
        match self.inside(find) {
            Ok(Some(address)) => Ok(address),
            Ok(None) => Err(self.session.fail(
                "eth0 inside has an IPv4 address",
                format!("it has none; there are {}", self.devices()),
                "an address is given in the network namespace that the device is in: inside",
            )),
            Err(error) => Err(self.cannot(&error)),
        }
    }

    fn cannot(&self, error: &Error) -> Failure {
        let lesson = "the container ended too early, or its network namespace is not its own";
        self.session.fail("to look at the container's network", error.to_string(), lesson)
    }

    fn end(self) -> Result<(), Failure> {
        self.session.end()?.success("the command was to wait for a line and end")
    }
}

/// The IPv4 addresses of this thread's network namespace, with their devices.
fn addresses() -> IoResult<Vec<(String, Ipv4Addr)>> {
    let mut found = Vec::new();
    for link in getifaddrs()? {
        if let Some(address) = link.address.as_ref().and_then(|address| address.as_sockaddr_in()) {
            found.push((link.interface_name.clone(), address.ip()));
        }
    }
    Ok(found)
}

/// A server that says a word and repeats what it is told, until it is dropped.
struct Server {
    port: u16,
    over: Arc<AtomicBool>,
}

impl Server {
    /// In the network namespace of this thread. Port 0 is any.
    fn open(address: Ipv4Addr, port: u16, word: &str) -> IoResult<Server> {
        let listener = TcpListener::bind((address, port))?;
        let port = listener.local_addr()?.port();
        listener.set_nonblocking(true)?;
        let over = Arc::new(AtomicBool::new(false));
        let (stop, word) = (Arc::clone(&over), word.to_string());
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((client, _)) => {
                        let word = word.clone();
                        std::thread::spawn(move || answer(client, &word));
                    }
                    Err(_) => std::thread::sleep(Duration::from_millis(5)),
                }
            }
        });
        Ok(Server { port, over })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// Speaks first; then reads to the end, and repeats it: the end of what the client says has to arrive.
fn answer(mut client: TcpStream, word: &str) -> IoResult<()> {
    client.set_nonblocking(false)?;
    client.set_read_timeout(Some(3 * PATIENCE))?;
    client.set_write_timeout(Some(3 * PATIENCE))?;
    client.write_all(word.as_bytes())?;
    let mut said = Vec::new();
    client.read_to_end(&mut said)?;
    client.write_all(&said)?;
    client.shutdown(Shutdown::Write)
}

/// Connects, and hears the word that the server says first.
fn meet(to: SocketAddr, word: &str) -> Result<TcpStream, String> {
    let mut heard = vec![0; word.len()];
    let mut listen = || {
        let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let read = stream.read_exact(&mut heard);
        Ok((read, stream))
    };
    match listen() {
        Err(error) => Err(format!("{to}: {}", in_words(&error))),
        Ok((Err(error), _)) => {
            Err(format!("{to} takes the connection; no word of the server: {}", in_words(&error)))
        }
        Ok((Ok(()), stream)) if heard == word.as_bytes() => Ok(stream),
        Ok(_) => Err(format!("at {to} somebody else answers: {:?}", String::from_utf8_lossy(&heard))),
    }
}

/// Says something, says that this was all, and hears it repeated.
fn repeat(mut stream: TcpStream, say: &[u8]) -> Result<(), String> {
    let mut heard = Vec::new();
    let mut talk = || {
        stream.write_all(say)?;
        stream.shutdown(Shutdown::Write)?;
        stream.read_to_end(&mut heard)
    };
    match talk() {
        Ok(_) if heard == say => Ok(()),
        Ok(count) => Err(format!("{} bytes were sent and {count} came back", say.len())),
        Err(error) => {
            let came = heard.len();
            Err(format!(
                "{} bytes were sent, then no more; {came} came back, then: {}",
                say.len(),
                in_words(&error)
            ))
        }
    }
}

fn in_words(error: &Error) -> String {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => format!("nothing for {} s", PATIENCE.as_secs()),
        ErrorKind::UnexpectedEof => "it was closed".to_string(),
        ErrorKind::ConnectionRefused => "connection refused: nobody listens there".to_string(),
        _ => error.to_string(),
    }
}

/// Meets the server and talks to it. Else, what happened.
fn asks(to: SocketAddr, word: &str, say: &str) -> Result<(), String> {
    repeat(meet(to, word)?, say.as_bytes())
}

fn loopback(trial: &mut Trial) -> Result<(), Failure> {
    looking_at(trial, "5.1");
    let container = Container::start(trial, &["--network", "none"], GAVE_UP)?;
    let (word, say) = (trial.word(), trial.word());
    let heard = container.inside(|| {
        let server = Server::open(Ipv4Addr::LOCALHOST, 0, &word)?;
        asks((Ipv4Addr::LOCALHOST, server.port).into(), &word, &say).map_err(Error::other)
    });
    if let Err(error) = heard {
        return Err(container.session.fail(
            "a server at 127.0.0.1 inside answers a client inside",
            format!("{error}; there are {}", container.devices()),
            "a new network namespace has its own lo, and it is switched off: 127.0.0.1 comes with switching it on",
        ));
    }
    container.end()
}

/// Where a veth leads to: the number of the device at the other end.
fn other_end(name: &str) -> Option<u32> {
    let netlink = Netlink::open("look at a link").ok()?;
    netlink.link("look at a link", name).ok()?.filter(|link| link.kind == "veth")?;
    fs::read_to_string(format!("/sys/class/net/{name}/iflink")).ok()?.trim().parse().ok()
}

fn is_on(name: &str) -> bool {
    let is_it = |link: &nix::ifaddrs::InterfaceAddress| {
        link.interface_name == name && link.flags.contains(InterfaceFlags::IFF_UP)
    };
    getifaddrs().is_ok_and(|mut all| all.any(|link| is_it(&link)))
}

fn cable(trial: &mut Trial) -> Result<(), Failure> {
    looking_at(trial, "5.2");
    let before = trial.host_links();
    const NO_ETH0: &str = "the runtime gave up: its words on stderr name the step. If that is giving an address or \
                           finding eth0, there is no eth0 inside: the end is still outside, or has another name";
    const OUTSIDE: &str = "eth0 is on the host: a veth pair is born with both ends where it is made, unless one of them \
                           is told to be in another network namespace, or is moved there";
    let started = Container::start(trial, &[], NO_ETH0);
    let is_outside = trial.host_links().iter().any(|name| name == "eth0" && !before.contains(name));
    let container = started.map_err(|failure| {
        if is_outside { Failure { lesson: OUTSIDE.to_string(), ..failure } } else { failure }
    })?;
    let number = container.inside(|| Ok(nix::net::if_::if_nametoindex("eth0")?));
    let new: Vec<String> = trial.host_links().into_iter().filter(|name| !before.contains(name)).collect();
    let on_host = if new.is_empty() { "none".to_string() } else { new.join(", ") };
    let session = &container.session;
    let Ok(number) = number else {
        let devices = container.devices();
        let lesson = if is_outside {
            OUTSIDE
        } else if devices.contains(", ") {
            "the end inside has another name: the kernel chooses one for a device that is given none"
        } else {
            "no cable leads inside: of a veth pair one end is for the container, the other for the host"
        };
        let saw = format!("inside there are {devices}; new on the host: {on_host}");
        return Err(session.fail("a device named eth0 inside", saw, lesson));
    };
    let ends: Vec<&String> = new.iter().filter(|name| other_end(name) == Some(number)).collect();
    let [end] = ends[..] else {
        return Err(session.fail(
            "eth0 inside is one end of a veth pair, and the other end is a new device on the host",
            format!("new on the host: {on_host}; none of them leads to device {number} inside"),
            "both ends inside, or an eth0 of another kind, lead nowhere: what goes in must come out on the host",
        ));
    };
    if is_outside {
        return Err(session.fail(
            "the host has no eth0 of the container",
            format!("new on the host: {on_host}"),
            "a device is in one network namespace only: this one was not moved",
        ));
    }
    if !is_on(end) || !container.inside(|| Ok(is_on("eth0"))).unwrap_or(false) {
        return Err(session.fail(
            format!("eth0 inside and {end} on the host are switched on"),
            format!(
                "inside there are {}; {end} on the host is {}",
                container.devices(),
                if is_on(end) { "on" } else { "off" }
            ),
            "a new device is switched off, and a cable works when both ends are on",
        ));
    }
    let end = end.clone();
    let shown = container.session.command().to_string();
    container.end()?;
    if !trial.eventually(|| !trial.host_links().contains(&end)) {
        return Err(Failure::new(
            shown,
            format!("when the container has ended, {end} is gone with its other end"),
            format!("the host still has {end}"),
            "the kernel removes the pair when the network namespace ends: something still holds that, a process or an \
             open file",
        ));
    }
    Ok(())
}

/// Serves in one container and connects from another, or from the host.
fn reaches(from: Option<&Container>, to: &Container, word: &str, what: &str) -> Result<(), Failure> {
    let address = to.address()?;
    let server =
        to.inside(|| Server::open(Ipv4Addr::UNSPECIFIED, 0, word)).map_err(|error| to.cannot(&error))?;
    let target: SocketAddr = (address, server.port).into();
    let client = || asks(target, word, "hello").map_err(Error::other);
    let heard = match from {
        Some(container) => container.inside(client),
        None => client(),
    };
    heard.map_err(|error| {
        let inside = from.map_or_else(|| "(the host)".to_string(), |container| container.devices());
        let (wires, lesson) = wiring();
        to.session.fail(
            format!("{what}, at {address}"),
            format!(
                "{error}; the client has {inside}; the server has {}; the host has {wires}",
                to.devices()
            ),
            lesson,
        )
    })
}

/// The host's bridges and the cables' outer ends, and what is wrong with them.
fn wiring() -> (String, &'static str) {
    let (mut bridges, mut cables) = (Vec::new(), Vec::new());
    let netlink = Netlink::open("look at the links").ok();
    for entry in fs::read_dir("/sys/class/net").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let link = netlink.as_ref().and_then(|netlink| netlink.link("look at a link", &name).ok()?);
        let master = fs::read_link(entry.path().join("master")).ok();
        let master = master.and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
        match link.map(|link| link.kind).as_deref() {
            Some("bridge") => bridges.push(name),
            Some("veth") => cables.push((name, master)),
            _ => {}
        }
    }
    bridges.sort();
    cables.sort();
    let state = |name: &str| if is_on(name) { "on" } else { "off" };
    let mut list: Vec<String> =
        bridges.iter().map(|name| format!("bridge {name} ({})", state(name))).collect();
    list.extend(cables.iter().map(|(name, master)| {
        let place = master.as_ref().map_or("in no bridge".to_string(), |bridge| format!("in {bridge}"));
        format!("{name} ({}, {place})", state(name))
    }));
    let words = if list.is_empty() { "neither bridge nor cable".to_string() } else { list.join(", ") };
    let lesson = if bridges.is_empty() {
        "each cable ends on the host by itself: something there has to pass on what comes in at one and is for another"
    } else if cables.iter().any(|(_, master)| master.is_none()) {
        "a cable is plugged in nowhere: its end on the host joins the bridge when the bridge is made its master"
    } else if !bridges.iter().all(|name| is_on(name)) {
        "the bridge is switched off, as every new device is, and passes nothing on: it has to be switched on like the \
         cables"
    } else {
        "all cables end in one bridge, and the bridge and every cable are switched on; all addresses are of one \
         subnet, and no two the same"
    };
    (words, lesson)
}

fn containers_reach_each_other(trial: &mut Trial) -> Result<(), Failure> {
    looking_at(trial, "5.3");
    let word = trial.word();
    let first = Container::start(trial, &[], GAVE_UP)?;
    const SECOND: &str = "the first container could be made, the second could not: the bridge and its address are \
                          there by now, and that is no error";
    let second = Container::start(trial, &[], SECOND)?;
    const ALONE: &str = "each runtime is a process of its own, and knows nothing of the others: something outside of \
                         it has to tell which addresses are taken, as long as they are";
    differ(&second, &[&first], ALONE)?;
    reaches(Some(&second), &first, &word, "the second container reaches the first")?;
    reaches(Some(&first), &second, &word, "the first container reaches the second")?;
    reaches(None, &first, &word, "the host reaches the first container")?;
    let third = Container::start(trial, &[], SECOND)?;
    differ(&third, &[&first, &second], ALONE)?;
    first.end()?;
    // For a second after hearing of a hardware address the kernel believes no other.
    std::thread::sleep(Duration::from_millis(1200));
    let fourth = Container::start(trial, &[], SECOND)?;
    const COUNTED: &str = "how many there are does not tell which addresses are free: of three, the first may have \
                           gone. Each runtime leaves word of what it has taken, in a way that ends with it";
    differ(&fourth, &[&second, &third], COUNTED)?;
    reaches(
        Some(&fourth),
        &second,
        &word,
        "a container that came when another had ended reaches the second",
    )?;
    reaches(
        Some(&second),
        &fourth,
        &word,
        "the second container reaches one that came when another had ended",
    )?;
    reaches(Some(&third), &second, &word, "the third container reaches the second")?;
    for container in [second, third, fourth] {
        container.end()?;
    }
    Ok(())
}

/// Fails if the container has an address of another container or of the host.
fn differ(new: &Container, others: &[&Container], lesson: &str) -> Result<(), Failure> {
    let address = new.address()?;
    for other in others {
        if other.address()? == address {
            return Err(new.session.fail(
                "no two containers have the same address at a time",
                format!("another container that is still running has {address}, too"),
                lesson,
            ));
        }
    }
    if addresses().is_ok_and(|all| all.iter().any(|(_, hosts)| *hosts == address)) {
        return Err(new.session.fail(
            "the container's address is nobody else's",
            format!("{address} is the host's own, too"),
            "the bridge has an address of the subnet itself",
        ));
    }
    Ok(())
}

/// A free port of the host.
fn free_port(trial: &mut Trial) -> u16 {
    loop {
        let port = trial.number(20_000, 60_000) as u16;
        if TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() {
            return port;
        }
    }
}

fn published(trial: &mut Trial) -> Result<(), Failure> {
    looking_at(trial, "5.4");
    let (outer, inner, word) = (free_port(trial), free_port(trial), trial.word());
    let option = format!("{outer}:{inner}");
    let container = Container::start(trial, &["--publish", &option], GAVE_UP).map_err(|failure| {
        if !failure.saw.contains("--publish") {
            return failure;
        }
        let lesson =
            "the program does not take the option --publish HOSTPORT:PORT: it stands before the command";
        Failure { lesson: lesson.to_string(), ..failure }
    })?;
    let server = container
        .inside(|| Server::open(Ipv4Addr::UNSPECIFIED, inner, &word))
        .map_err(|error| container.cannot(&error))?;
    let here = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    let session = &container.session;
    let expected = format!("port {outer} of the host leads to the server at port {inner} inside");

    // The runtime may get ready while the command runs already.
    let start = Instant::now();
    let mut heard = asks(here(outer), &word, "hello");
    while heard.is_err() && start.elapsed() < Duration::from_secs(2) {
        std::thread::sleep(Duration::from_millis(50));
        heard = asks(here(outer), &word, "hello");
    }
    if let Err(error) = heard {
        let lesson = if error.contains("bytes were sent") {
            "the client has said all (it has shut down its half), and waits: the server must hear that, too, to begin \
             its answer, and the answer must come back"
        } else if error.contains("takes the connection") {
            let direct = container.address().map(|address| asks((address, inner).into(), &word, "hello"));
            if direct.is_ok_and(|heard| heard.is_ok()) {
                "no word comes through, though the server answers at the container's own address: it speaks first here, \
                 and the client waits for that. Both ways have to be open at once"
            } else {
                "no word comes through, for the host itself does not reach the server at the container's address: that \
                 is the work of 5.3"
            }
        } else if TcpStream::connect_timeout(&here(inner), PATIENCE).is_ok() {
            "it is the container's port that is taken on the host: in HOSTPORT:PORT the host's comes first"
        } else {
            "whoever connects to the host's port is to be led to the container's address and port"
        };
        return Err(session.fail(expected, error, lesson));
    }
    if let Err(error) = asks(here(outer), &word, "again") {
        let lesson = "a published port serves one client after the other: accept(2) belongs in a loop";
        return Err(session.fail(format!("{expected}, a second time"), error, lesson));
    }
    let large: String = (0..500_000).map(|number| char::from(b'a' + (number % 23) as u8)).collect();
    let both = meet(here(outer), &word).and_then(|waiting| {
        repeat(meet(here(outer), &word)?, large.as_bytes())?;
        repeat(waiting, b"late")
    });
    if let Err(error) = both {
        return Err(session.fail(
            "two connections at once: while the first is silent, half a megabyte goes through the second and back",
            error,
            "who waits for one client must not keep the others waiting: a thread or a process for each; and what is \
             read may be more than one buffer",
        ));
    }
    drop(server);
    let shown = session.command().to_string();
    container.end()?;
    if !trial.eventually(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, outer)).is_ok()) {
        return Err(Failure::new(
            shown,
            format!("port {outer} of the host is free when the container has ended"),
            "it is still taken",
            "what serves a published port ends with its container",
        ));
    }
    Ok(())
}
