//! nc: a connection as a pipe. What is read is sent, and what arrives is printed.

use std::io::{self, IsTerminal, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::{Done, Failure, words};

const USAGE: &str = "nc [-w SECONDS] HOST PORT, or nc -l -p PORT; and -e PROGRAM [ARGUMENT...] at the end";

/// Connects, or waits to be connected to.
pub fn main(arguments: &[String]) -> Done {
    let (mut listen, mut port, mut patience, mut program, mut names) = (false, None, None, None, Vec::new());
    let mut rest = arguments;
    while let Some((word, after)) = rest.split_first() {
        rest = after;
        let mut value = || -> Result<u16, Failure> {
            let (value, after) = rest.split_first().ok_or_else(|| Failure::usage(USAGE))?;
            rest = after;
            value.parse().map_err(|_| format!("'{value}' is not a number up to 65535").into())
        };
        match word.as_str() {
            "-l" => listen = true,
            "-p" => port = Some(value()?),
            "-lp" => (listen, port) = (true, Some(value()?)),
            "-w" => patience = Some(Duration::from_secs(u64::from(value()?.max(1)))),
            "-n" => {}
            "-e" if !rest.is_empty() => program = Some(std::mem::take(&mut rest)),
            word if word.starts_with('-') => return Err(Failure::usage(USAGE)),
            word => names.push(word),
        }
    }
    let stream = match (listen, names.as_slice(), port) {
        (true, [], Some(port)) => accept(port)?,
        (true, [port], None) => accept(number(port)?)?,
        (false, [host, port], None) => connect(host, number(port)?, patience)?,
        _ => return Err(Failure::usage(USAGE)),
    };
    match program {
        Some(program) => Err(become_program(program, stream)),
        None => exchange(stream),
    }
}

fn number(port: &str) -> Result<u16, Failure> {
    port.parse().map_err(|_| format!("bad port '{port}'").into())
}

fn accept(port: u16) -> Result<TcpStream, Failure> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port));
    let listener = listener.map_err(|error| format!("bind: {}", words(&error)))?;
    let (stream, _) = listener.accept().map_err(|error| format!("accept: {}", words(&error)))?;
    Ok(stream)
}

fn connect(host: &str, port: u16, patience: Option<Duration>) -> Result<TcpStream, Failure> {
    let addresses = (host, port).to_socket_addrs().map_err(|_| format!("bad address '{host}'"))?;
    let mut failure = format!("bad address '{host}'");
    for address in addresses {
        let tried = match patience {
            Some(patience) => TcpStream::connect_timeout(&address, patience),
            None => TcpStream::connect(address),
        };
        match tried {
            Ok(stream) => return Ok(stream),
            Err(error) => {
                failure = format!("can't connect to remote host ({}): {}", address.ip(), words(&error))
            }
        }
    }
    Err(failure.into())
}

/// Both ways at once. The end of the input is passed on, and that of the other end's words is the end: but what waits to be
/// sent still is, unless somebody would have to type it first.
fn exchange(stream: TcpStream) -> Done {
    let mut sending = stream.try_clone().map_err(|error| words(&error))?;
    let sender = std::thread::spawn(move || {
        let _ = copy(&mut io::stdin(), &mut sending);
        let _ = sending.shutdown(Shutdown::Write);
    });
    let mut receiving = stream;
    copy(&mut receiving, &mut io::stdout()).map_err(|error| words(&error))?;
    if !io::stdin().is_terminal() {
        let _ = sender.join();
    }
    Ok(0)
}

/// Piece by piece, as it comes. (io::copy may wait for more.)
fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = [0; 16 * 1024];
    loop {
        let length = match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        to.write_all(&buffer[..length])?;
        to.flush()?;
    }
}

/// The connection is the program's input and output.
fn become_program(program: &[String], stream: TcpStream) -> Failure {
    let copy = || stream.try_clone().map(|copy| Stdio::from(OwnedFd::from(copy)));
    let error = match (copy(), copy(), copy()) {
        (Ok(input), Ok(output), Ok(error)) => {
            Command::new(&program[0]).args(&program[1..]).stdin(input).stdout(output).stderr(error).exec()
        }
        _ => io::Error::last_os_error(),
    };
    format!("can't execute '{}': {}", program[0], words(&error)).into()
}
