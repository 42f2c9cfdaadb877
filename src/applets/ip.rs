//! ip: the links, addresses and routes of this network namespace.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::netlink::{self, Reply};
use crate::{Done, Failure, print};

const USAGE: &str = "ip [-o] [-br] [-4 | -6] addr|link|route [show [dev LINK]]
           ip link set LINK up|down
           ip addr add|del ADDRESS/BITS dev LINK
           ip route add|del default|NETWORK/BITS [via GATEWAY] [dev LINK]
    That is all that this small ip can do. The package iproute2 has the whole one.";

const IFINFOMSG: usize = 16;
const IFADDRMSG: usize = 8;
const RTMSG: usize = 12;
const INET: u8 = 2;
const INET6: u8 = 10;
const UP: u32 = 1;
const RUNNING: u32 = 0x40;

/// How things are shown.
#[derive(Default)]
struct Style {
    one_line: bool,
    brief: bool,
    family: Option<u8>,
}

/// Shows, or changes.
pub fn main(arguments: &[String]) -> Done {
    let mut style = Style::default();
    let mut words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    while let Some(option) = words.first().copied().filter(|word| word.starts_with('-')) {
        match option {
            "-o" | "-oneline" => style.one_line = true,
            "-br" | "-brief" => style.brief = true,
            "-4" => style.family = Some(INET),
            "-6" => style.family = Some(INET6),
            _ => return Err(Failure::usage(USAGE)),
        }
        words.remove(0);
    }
    let is = |word: &str, whole: &str| !word.is_empty() && whole.starts_with(word);
    let (Some(object), rest) = (words.first().copied(), words.get(1..).unwrap_or_default()) else {
        return Err(Failure::usage(USAGE));
    };
    let dev = match rest {
        [] => Some(None),
        [show] if is(show, "show") || is(show, "list") || *show == "ls" => Some(None),
        [show, "dev", dev] | [show, dev] if is(show, "show") || is(show, "list") || *show == "ls" => {
            Some(Some(*dev))
        }
        _ => None,
    };
    match (object, dev) {
        (object, Some(dev)) if is(object, "address") => show_addresses(&style, dev),
        (object, Some(dev)) if is(object, "link") => show_links(&style, dev),
        (object, Some(dev)) if is(object, "route") => show_routes(&style, dev),
        (object, None) if is(object, "link") => change_link(rest),
        (object, None) if is(object, "address") => change_address(rest),
        (object, None) if is(object, "route") => change_route(rest),
        _ => Err(Failure::usage(USAGE)),
    }
}

// ---- Links

/// A link as the kernel describes it: `struct ifinfomsg` and attributes.
struct Link(Reply);

impl Link {
    fn all() -> Result<Vec<Link>, Failure> {
        let all = netlink::dump(netlink::RTM_GETLINK, &[0; IFINFOMSG])?;
        Ok(all.into_iter().map(Link).collect())
    }

    fn index(&self) -> u32 {
        self.0.u32(4)
    }

    fn flags(&self) -> u32 {
        self.0.u32(8)
    }

    fn name(&self) -> String {
        self.0.text(3).unwrap_or_default()
    }

    /// With what it hangs on, if that is elsewhere: `eth0@if5`.
    fn full_name(&self, all: &[Link]) -> String {
        let other = self.0.number(5).filter(|&other| other != 0 && other != self.index());
        // A number of another network namespace says nothing here.
        let here = |index: u32| all.iter().find(|link| link.index() == index && self.0.find(37).is_none());
        match other.map(|index| here(index).map_or(format!("if{index}"), Link::name)) {
            Some(other) => format!("{}@{other}", self.name()),
            None => self.name(),
        }
    }

    fn flag_names(&self) -> String {
        const NAMES: [(u32, &str); 7] = [
            (0x8, "LOOPBACK"),
            (0x2, "BROADCAST"),
            (0x10, "POINTOPOINT"),
            (0x1000, "MULTICAST"),
            (0x80, "NOARP"),
            (UP, "UP"),
            (0x10000, "LOWER_UP"),
        ];
        let flags = self.flags();
        let no_carrier = (flags & UP != 0 && flags & RUNNING == 0).then_some("NO-CARRIER");
        let names = NAMES.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, name)| *name);
        no_carrier.into_iter().chain(names).collect::<Vec<_>>().join(",")
    }

    /// The state of RFC 2863.
    fn state(&self) -> &'static str {
        let names = ["UNKNOWN", "NOTPRESENT", "DOWN", "LOWERLAYERDOWN", "TESTING", "DORMANT", "UP"];
        let number = self.0.find(16).and_then(|value| value.first().copied()).unwrap_or_default();
        names.get(usize::from(number)).copied().unwrap_or("UNKNOWN")
    }

    fn hardware(&self, attribute: u16) -> Option<String> {
        let address = self.0.find(attribute)?;
        Some(address.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":"))
    }

    /// What `ip link` shows of it.
    fn lines(&self, all: &[Link]) -> Vec<String> {
        let mut first = format!("{}: {}: <{}>", self.index(), self.full_name(all), self.flag_names());
        for (name, value) in [("mtu", self.0.number(4).map(|mtu| mtu.to_string())), ("qdisc", self.0.text(6))]
        {
            first += &value.map(|value| format!(" {name} {value}")).unwrap_or_default();
        }
        if let Some(master) = self.0.number(10) {
            let name = all.iter().find(|link| link.index() == master).map(Link::name);
            first += &format!(" master {}", name.unwrap_or_else(|| format!("if{master}")));
        }
        first += &self.0.number(13).map(|length| format!(" qlen {length}")).unwrap_or_default();
        let kind = match u16::from_ne_bytes([self.0.u8(2), self.0.u8(3)]) {
            1 => "ether".to_string(),
            772 => "loopback".to_string(),
            65534 => "none".to_string(),
            number => format!("[{number}]"),
        };
        let mut second = format!("    link/{kind}");
        second += &self.hardware(1).map(|address| format!(" {address}")).unwrap_or_default();
        second += &self.hardware(2).map(|address| format!(" brd {address}")).unwrap_or_default();
        vec![first, second]
    }
}

/// The links to show: all, or the one that is named.
fn chosen<'a>(all: &'a [Link], dev: Option<&str>) -> Result<Vec<&'a Link>, Failure> {
    let chosen: Vec<&Link> = all.iter().filter(|link| dev.is_none_or(|dev| link.name() == dev)).collect();
    match (chosen.is_empty(), dev) {
        (true, Some(dev)) => Err(no_device(dev)),
        _ => Ok(chosen),
    }
}

fn no_device(dev: &str) -> Failure {
    format!("can't find device '{dev}'").into()
}

fn show(lines: &[String], style: &Style) {
    // In one line a backslash stands where a line ended.
    print(&lines.join(if style.one_line { "\\" } else { "\n" }));
}

fn show_links(style: &Style, dev: Option<&str>) -> Done {
    let all = Link::all()?;
    for link in chosen(&all, dev)? {
        if style.brief {
            let address = link.hardware(1).unwrap_or_default();
            print(&format!(
                "{:<16} {:<14} {address} <{}>",
                link.full_name(&all),
                link.state(),
                link.flag_names()
            ));
        } else {
            show(&link.lines(&all), style);
        }
    }
    Ok(0)
}

/// `ip link set [dev] LINK up|down`
fn change_link(words: &[&str]) -> Done {
    let (dev, up) = match words {
        ["set", "dev", dev, state @ ("up" | "down")] | ["set", dev, state @ ("up" | "down")] => {
            (*dev, *state == "up")
        }
        _ => return Err(Failure::usage(USAGE)),
    };
    let index = index_of(dev)?;
    let mut body = [0; IFINFOMSG];
    body[4..8].copy_from_slice(&index.to_ne_bytes());
    body[8..12].copy_from_slice(&u32::from(up).to_ne_bytes());
    body[12..16].copy_from_slice(&UP.to_ne_bytes());
    netlink::change(netlink::RTM_NEWLINK, 0, &body)?;
    Ok(0)
}

fn index_of(dev: &str) -> Result<u32, Failure> {
    Ok(chosen(&Link::all()?, Some(dev))?.first().map(|link| link.index()).unwrap_or_default())
}

// ---- Addresses

/// An address as the kernel describes it: `struct ifaddrmsg` and attributes.
struct Address(Reply);

impl Address {
    fn all(family: Option<u8>) -> Result<Vec<Address>, Failure> {
        let mut question = [0; IFADDRMSG];
        question[0] = family.unwrap_or_default();
        let all = netlink::dump(netlink::RTM_GETADDR, &question)?.into_iter().map(Address);
        Ok(all.filter(|address| [INET, INET6].contains(&address.0.u8(0))).collect())
    }

    fn index(&self) -> u32 {
        self.0.u32(4)
    }

    /// With its prefix, as in 10.83.0.2/16.
    fn text(&self) -> String {
        // IFA_LOCAL; the other is the peer's at a point-to-point link, and all that there is of IPv6.
        let bytes = self.0.find(2).or_else(|| self.0.find(1)).unwrap_or_default();
        format!("{}/{}", ip(bytes), self.0.u8(1))
    }

    /// What `ip addr` shows of it.
    fn lines(&self) -> [String; 2] {
        let kind = if self.0.u8(0) == INET { "inet" } else { "inet6" };
        let mut first = format!("    {kind} {}", self.text());
        first += &self.0.find(4).map(|bytes| format!(" brd {}", ip(bytes))).unwrap_or_default();
        first += &format!(" scope {}", scope(self.0.u8(3)));
        first += &self.0.text(3).map(|label| format!(" {label}")).unwrap_or_default();
        let times = self.0.find(6).unwrap_or_default();
        let time = |at: usize| match times
            .get(at..at + 4)
            .and_then(|four| four.try_into().ok())
            .map(u32::from_ne_bytes)
        {
            None | Some(u32::MAX) => "forever".to_string(),
            Some(seconds) => format!("{seconds}sec"),
        };
        [first, format!("       valid_lft {} preferred_lft {}", time(4), time(0))]
    }
}

fn ip(bytes: &[u8]) -> String {
    let v4 = <[u8; 4]>::try_from(bytes).map(Ipv4Addr::from).map(IpAddr::V4);
    let address = v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(Ipv6Addr::from).map(IpAddr::V6));
    address.map_or("?".to_string(), |address| address.to_string())
}

fn scope(number: u8) -> String {
    match number {
        0 => "global".to_string(),
        200 => "site".to_string(),
        253 => "link".to_string(),
        254 => "host".to_string(),
        other => other.to_string(),
    }
}

fn show_addresses(style: &Style, dev: Option<&str>) -> Done {
    let all = Link::all()?;
    let addresses = Address::all(style.family)?;
    for link in chosen(&all, dev)? {
        let own: Vec<&Address> = addresses.iter().filter(|address| address.index() == link.index()).collect();
        if style.brief {
            let texts: Vec<String> = own.iter().map(|address| address.text()).collect();
            print(&format!("{:<16} {:<14} {}", link.full_name(&all), link.state(), texts.join(" ")));
        } else if style.one_line {
            for address in own {
                let [first, second] = address.lines();
                print(&format!("{}: {}{first}\\{second}", link.index(), link.name()));
            }
        } else if style.family.is_none() || !own.is_empty() {
            let lines = link.lines(&all).into_iter();
            // With -4 or -6 the hardware's address is not asked for.
            let lines = lines.take(if style.family.is_some() { 1 } else { 2 });
            show(&lines.chain(own.iter().flat_map(|address| address.lines())).collect::<Vec<_>>(), style);
        }
    }
    Ok(0)
}

/// `ip addr add|del ADDRESS/BITS dev LINK`
fn change_address(words: &[&str]) -> Done {
    const RTM_DELADDR: u16 = 21;
    let ["add" | "del", what, "dev", dev] = words else { return Err(Failure::usage(USAGE)) };
    let (address, bits) = network(what)?;
    let mut body = vec![INET, bits, 0, 0];
    body.extend(index_of(dev)?.to_ne_bytes());
    for attribute in [2, 1] {
        body.extend(netlink::attribute(attribute, &address.octets()));
    }
    match words.first() {
        Some(&"add") => {
            netlink::change(netlink::RTM_NEWADDR, netlink::NLM_F_CREATE | netlink::NLM_F_EXCL, &body)?
        }
        _ => netlink::change(RTM_DELADDR, 0, &body)?,
    }
    Ok(0)
}

/// `10.83.0.2/16`; without bits it is one machine's.
fn network(text: &str) -> Result<(Ipv4Addr, u8), Failure> {
    let (address, bits) = text.split_once('/').unwrap_or((text, "32"));
    match (address.parse(), bits.parse()) {
        (Ok(address), Ok(bits @ 0..=32)) => Ok((address, bits)),
        _ => Err(format!("bad address '{text}'").into()),
    }
}

// ---- Routes

const MAIN: u8 = 254;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
/// `struct rtmsg` is family, length of the destination, of the source, type of service, table, protocol, scope, type.
const SCOPE: usize = 6;

fn show_routes(style: &Style, dev: Option<&str>) -> Done {
    let links = Link::all()?;
    chosen(&links, dev)?;
    let mut question = [0; RTMSG];
    question[0] = style.family.unwrap_or(INET);
    for route in netlink::dump(netlink::RTM_GETROUTE, &question)? {
        // The kernel keeps its own addresses as routes, in another table.
        if route.u8(4) != MAIN {
            continue;
        }
        let link = route.number(RTA_OIF).and_then(|index| links.iter().find(|link| link.index() == index));
        if dev.is_some() && link.map(Link::name).as_deref() != dev {
            continue;
        }
        let mut line = match route.find(RTA_DST) {
            Some(to) => format!("{}/{}", ip(to), route.u8(1)),
            None => "default".to_string(),
        };
        line += &route.find(RTA_GATEWAY).map(|via| format!(" via {}", ip(via))).unwrap_or_default();
        line += &link.map(|link| format!(" dev {}", link.name())).unwrap_or_default();
        if route.u8(SCOPE) != 0 {
            line += &format!(" scope {}", scope(route.u8(SCOPE)));
        }
        line += &route.find(RTA_PREFSRC).map(|own| format!(" src {}", ip(own))).unwrap_or_default();
        line += &route.number(RTA_PRIORITY).map(|metric| format!(" metric {metric}")).unwrap_or_default();
        print(&line);
    }
    Ok(0)
}

/// `ip route add|del default|NETWORK [via GATEWAY] [dev LINK]`
fn change_route(words: &[&str]) -> Done {
    const BOOT: u8 = 3;
    const UNICAST: u8 = 1;
    const UNIVERSE: u8 = 0;
    const LINK: u8 = 253;
    const NOWHERE: u8 = 255;
    let ([verb @ ("add" | "del"), what], rest) = words.split_at(words.len().min(2)) else {
        return Err(Failure::usage(USAGE));
    };
    let (via, dev) = match rest {
        [] => (None, None),
        ["via", via] => (Some(*via), None),
        ["dev", dev] => (None, Some(*dev)),
        ["via", via, "dev", dev] => (Some(*via), Some(*dev)),
        _ => return Err(Failure::usage(USAGE)),
    };
    let (address, bits) = if *what == "default" { (Ipv4Addr::UNSPECIFIED, 0) } else { network(what)? };
    let add = *verb == "add";
    // Without a gateway it is for neighbours. What is to be deleted may have any.
    let scope = if !add {
        NOWHERE
    } else if via.is_some() {
        UNIVERSE
    } else {
        LINK
    };
    let (protocol, kind) = if add { (BOOT, UNICAST) } else { (0, 0) };
    let mut body = vec![INET, bits, 0, 0, MAIN, protocol, scope, kind, 0, 0, 0, 0];
    if bits > 0 {
        body.extend(netlink::attribute(RTA_DST, &address.octets()));
    }
    if let Some(via) = via {
        let gateway: Ipv4Addr = via.parse().map_err(|_| format!("bad address '{via}'"))?;
        body.extend(netlink::attribute(RTA_GATEWAY, &gateway.octets()));
    }
    if let Some(dev) = dev {
        body.extend(netlink::attribute(RTA_OIF, &index_of(dev)?.to_ne_bytes()));
    }
    match add {
        true => netlink::change(netlink::RTM_NEWROUTE, netlink::NLM_F_CREATE | netlink::NLM_F_EXCL, &body)?,
        false => netlink::change(netlink::RTM_DELROUTE, 0, &body)?,
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_have_bits() {
        let parsed = |text: &str| network(text).ok();
        assert_eq!(parsed("10.83.0.2/16"), Some((Ipv4Addr::new(10, 83, 0, 2), 16)));
        assert_eq!(parsed("10.83.0.2"), Some((Ipv4Addr::new(10, 83, 0, 2), 32)));
        for text in ["10.83.0.2/33", "10.83.0", "", "::1/128"] {
            assert!(parsed(text).is_none(), "{text:?}");
        }
    }

    #[test]
    fn the_loopback_device_is_the_first_link() {
        let links = Link::all().unwrap_or_default();
        assert!(links.iter().any(|link| link.name() == "lo" && link.flag_names().starts_with("LOOPBACK")));
    }
}
