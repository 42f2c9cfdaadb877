//! hostname: the name in the UTS namespace of whoever asks.

use std::net::ToSocketAddrs;

use crate::{Done, Failure, print, sys, words};

/// `hostname [-s | -i | NAME]`
pub fn main(arguments: &[String]) -> Done {
    let name = || sys::hostname().map_err(|error| format!("gethostname: {}", words(&error)));
    match arguments {
        [] => print(&name()?),
        [option] if option == "-s" => print(name()?.split('.').next().unwrap_or_default()),
        [option] if option == "-i" => {
            let name = name()?;
            let found =
                (name.as_str(), 0).to_socket_addrs().map_err(|_| format!("{name}: Host not found"))?;
            let mut addresses: Vec<String> = found.map(|found| found.ip().to_string()).collect();
            addresses.dedup();
            print(&addresses.join(" "));
        }
        [new] if !new.starts_with('-') => {
            sys::set_hostname(new).map_err(|error| format!("sethostname: {}", words(&error)))?;
        }
        _ => return Err(Failure::usage("hostname [-s | -i | NAME]")),
    }
    Ok(0)
}
