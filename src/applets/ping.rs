//! ping: asks a machine for an echo, by ICMP.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, ToSocketAddrs, UdpSocket};
use std::time::{Duration, Instant};

use crate::sys::{self, AF_INET, IPPROTO_ICMP, SOCK_DGRAM, SOCK_RAW};
use crate::{Done, Failure, print, words};

const USAGE: &str = "ping [-c COUNT] [-W SECONDS] [-i SECONDS] [-q] HOST";
const ECHO_REPLY: u8 = 0;
const ECHO_REQUEST: u8 = 8;
/// What an echo carries besides its header of 8 bytes.
const DATA: usize = 56;

struct Options {
    count: Option<u16>,
    patience: Duration,
    interval: Duration,
    quiet: bool,
    host: String,
}

/// Asks, and prints what comes back. It succeeds if anything does.
pub fn main(arguments: &[String]) -> Done {
    let options = Options::parse(arguments).ok_or_else(|| Failure::usage(USAGE))?;
    let Options { host, count, .. } = &options;
    let addresses = (host.as_str(), 0).to_socket_addrs().map_err(|_| format!("bad address '{host}'"))?;
    let address = addresses
        .filter_map(|found| match found.ip() {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        })
        .next()
        .ok_or_else(|| format!("'{host}' has no IPv4 address, and this small ping knows no other"))?;
    let socket = Socket::open()?;
    sys::catch_interrupt();
    print(&format!("PING {host} ({address}): {DATA} data bytes"));

    let (mut sent, mut times) = (0u16, Vec::new());
    while count.is_none_or(|count| sent < count) && !sys::interrupted() {
        let start = Instant::now();
        socket.ask(address, sent)?;
        sent += 1;
        let last = *count == Some(sent);
        let until = start + if last { options.patience } else { options.interval };
        while let Some(echo) = socket.answer(until)? {
            let ms = milliseconds(echo.at.saturating_duration_since(start));
            if echo.sequence + 1 == sent {
                times.push(echo.at.saturating_duration_since(start));
            }
            if !options.quiet {
                let ttl = echo.ttl.map(|ttl| format!(" ttl={ttl}")).unwrap_or_default();
                let (length, from, sequence) = (echo.length, echo.from, echo.sequence);
                print(&format!("{length} bytes from {from}: seq={sequence}{ttl} time={ms} ms"));
            }
            if last && times.len() == usize::from(sent) {
                break; // all are back
            }
        }
    }
    let received = times.len();
    let lost = if sent == 0 { 0 } else { (usize::from(sent) - received) * 100 / usize::from(sent) };
    print(&format!("\n--- {host} ping statistics ---"));
    print(&format!("{sent} packets transmitted, {received} packets received, {lost}% packet loss"));
    if let (Some(least), Some(most)) = (times.iter().min(), times.iter().max()) {
        let mean = times.iter().sum::<Duration>() / received as u32;
        let all = [*least, mean, *most].map(milliseconds).join("/");
        print(&format!("round-trip min/avg/max = {all} ms"));
    }
    Ok(u8::from(received == 0))
}

impl Options {
    fn parse(arguments: &[String]) -> Option<Options> {
        let mut options = Options {
            count: None,
            patience: Duration::from_secs(10),
            interval: Duration::from_secs(1),
            quiet: false,
            host: String::new(),
        };
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            let mut number = |letter: &str| {
                let attached = word.strip_prefix(letter)?;
                let text = if attached.is_empty() { words.next()?.as_str() } else { attached };
                text.parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 0.0)
            };
            match word.get(..2) {
                Some("-c") => {
                    options.count = Some(number("-c").filter(|count| (1.0..65536.0).contains(count))? as u16)
                }
                Some("-W") => options.patience = Duration::try_from_secs_f64(number("-W")?).ok()?,
                Some("-i") => options.interval = Duration::try_from_secs_f64(number("-i")?).ok()?,
                Some("-q") if word == "-q" => options.quiet = true,
                Some("-n" | "-4") if word.len() == 2 => {}
                _ if word.starts_with('-') || !options.host.is_empty() => return None,
                _ => options.host = word.clone(),
            }
        }
        (!options.host.is_empty()).then_some(options)
    }
}

fn milliseconds(time: Duration) -> String {
    format!("{}.{:03}", time.as_micros() / 1000, time.as_micros() % 1000)
}

/// What came back.
struct Echo {
    from: IpAddr,
    length: usize,
    sequence: u16,
    ttl: Option<u8>,
    at: Instant,
}

/// A socket for ICMP. Rust's type is UDP's, but sending and receiving are the same calls.
struct Socket {
    socket: UdpSocket,
    /// What arrives begins with the header of its IP packet, and what others asked for arrives too.
    raw: bool,
    id: u16,
}

impl Socket {
    /// A raw one needs the capability CAP_NET_RAW; an unprivileged one, that the machine's ping_group_range allows it. See icmp(7).
    fn open() -> Result<Socket, Failure> {
        let open = |kind| sys::socket(AF_INET, kind, IPPROTO_ICMP).map(UdpSocket::from);
        let (socket, raw) = match open(SOCK_RAW) {
            Ok(socket) => (socket, true),
            Err(_) => match open(SOCK_DGRAM) {
                Ok(socket) => (socket, false),
                Err(error) => return Err(format!("socket: {} (are you root?)", words(&error)).into()),
            },
        };
        Ok(Socket { socket, raw, id: std::process::id() as u16 })
    }

    fn ask(&self, to: Ipv4Addr, sequence: u16) -> Result<(), Failure> {
        let packet = request(self.id, sequence);
        let to = SocketAddr::V4(SocketAddrV4::new(to, 0));
        self.socket.send_to(&packet, to).map_err(|error| format!("sendto: {}", words(&error)))?;
        Ok(())
    }

    /// The next answer, if one comes in time.
    fn answer(&self, until: Instant) -> Result<Option<Echo>, Failure> {
        let mut buffer = [0; 2048];
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || sys::interrupted() {
                return Ok(None);
            }
            self.socket.set_read_timeout(Some(left)).map_err(|error| words(&error))?;
            match self.socket.recv_from(&mut buffer) {
                Ok((length, from)) => {
                    let at = Instant::now();
                    if let Some(echo) = self.parse(&buffer[..length], from.ip(), at) {
                        return Ok(Some(echo));
                    }
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => return Err(format!("recvfrom: {}", words(&error)).into()),
            }
        }
    }

    fn parse(&self, packet: &[u8], from: IpAddr, at: Instant) -> Option<Echo> {
        let (ttl, message) = match self.raw {
            true => (packet.get(8).copied(), packet.get(usize::from(packet.first()? & 15) * 4..)?),
            false => (None, packet),
        };
        let number = |at: usize| Some(u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]));
        let (id, sequence) = (number(4)?, number(6)?);
        let ours = message.first() == Some(&ECHO_REPLY) && (!self.raw || id == self.id);
        ours.then_some(Echo { from, length: message.len(), sequence, ttl, at })
    }
}

/// Type, code, checksum, id, sequence, data; see RFC 792.
fn request(id: u16, sequence: u16) -> Vec<u8> {
    let mut packet = vec![ECHO_REQUEST, 0, 0, 0];
    packet.extend(id.to_be_bytes());
    packet.extend(sequence.to_be_bytes());
    packet.extend((0..DATA).map(|n| n as u8));
    let sum = checksum(&packet);
    packet[2..4].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// The complement of the sum of all 16-bit words, in which what overflows is added again.
fn checksum(packet: &[u8]) -> u16 {
    let words = packet.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_a_checksum_that_makes_it_zero() {
        let packet = request(4242, 1);
        assert_eq!((packet.len(), checksum(&packet)), (64, 0));
    }

    #[test]
    fn options_may_be_attached() {
        let words = |text: &str| text.split(' ').map(str::to_string).collect::<Vec<_>>();
        for line in ["-c 1 -W 5 host", "-c1 -W5 host"] {
            let options =
                Options::parse(&words(line)).map(|options| (options.count, options.patience, options.host));
            assert_eq!(options, Some((Some(1), Duration::from_secs(5), "host".to_string())), "{line}");
        }
        for line in ["", "-c", "-c 0 host", "-W -1 host", "-6 host", "one two"] {
            assert!(
                Options::parse(&words(line).into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>())
                    .is_none(),
                "{line}"
            );
        }
    }
}
