//! httpd: serves the files of a directory.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::{Done, Failure, words};

const USAGE: &str = "httpd -f [-p [IP:]PORT] [-h DIRECTORY]; it stays in the foreground";

/// Serves until it is killed.
pub fn main(arguments: &[String]) -> Done {
    let (mut address, mut home) = (SocketAddr::from((Ipv4Addr::UNSPECIFIED, 80)), PathBuf::from("."));
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match (word.as_str(), word.as_str() == "-p" || word.as_str() == "-h") {
            ("-f" | "-v", _) => {}
            (option, true) => {
                let value = words.next().ok_or_else(|| Failure::usage(USAGE))?;
                if option == "-h" {
                    home = value.into();
                } else {
                    let port = value.parse().map(|port: u16| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)));
                    let whole = value.parse::<SocketAddr>();
                    address = port.or(whole.map_err(drop)).map_err(|()| format!("bad address '{value}'"))?;
                }
            }
            _ => return Err(Failure::usage(USAGE)),
        }
    }
    let home =
        fs::canonicalize(&home).map_err(|error| format!("{}: {}", home.display(), crate::words(&error)))?;
    let listener = TcpListener::bind(address).map_err(|error| format!("bind: {}", self::words(&error)))?;
    let home = Arc::new(home);
    for stream in listener.incoming().flatten() {
        let home = Arc::clone(&home);
        // Who says nothing does not keep it for ever.
        let _ = stream.set_read_timeout(Some(Duration::from_secs(60)));
        std::thread::spawn(move || {
            let _ = serve(&home, stream);
        });
    }
    Ok(0)
}

fn serve(home: &Path, mut stream: TcpStream) -> io::Result<()> {
    // No client's request needs to be longer.
    let mut lines = BufReader::new(stream.try_clone()?.take(64 * 1024)).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let mut words = request.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let found = match method {
        "GET" | "HEAD" => file(home, target),
        _ => Err("501 Not Implemented"),
    };
    match found {
        Ok((file, length, kind)) => {
            let head = format!("HTTP/1.0 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n");
            stream.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes())?;
            if method == "GET" {
                io::copy(&mut file.take(length), &mut stream)?;
            }
        }
        Err(reason) => {
            let text = format!("{reason}\n");
            let head = format!(
                "HTTP/1.0 {reason}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n",
                text.len()
            );
            stream.write_all(format!("{head}Connection: close\r\n\r\n{text}").as_bytes())?;
        }
    }
    stream.flush()
}

type Found = (File, u64, &'static str);

/// The file that is asked for: only what is below the directory, also by way of links.
fn file(home: &Path, target: &str) -> Result<Found, &'static str> {
    const NOT_FOUND: &str = "404 Not Found";
    let name = target.split(['?', '#']).next().unwrap_or_default();
    let name = Path::new(name.trim_start_matches('/'));
    if !name.components().all(|part| matches!(part, Component::Normal(_))) {
        return Err(NOT_FOUND);
    }
    let mut path = home.join(name);
    if path.is_dir() {
        path.push("index.html");
    }
    let path = fs::canonicalize(path).map_err(|_| NOT_FOUND)?;
    if !path.starts_with(home) {
        return Err(NOT_FOUND);
    }
    let file = File::open(&path).map_err(|_| "403 Forbidden")?;
    let metadata = file.metadata().ok().filter(|metadata| metadata.is_file()).ok_or(NOT_FOUND)?;
    let kind = match path.extension().and_then(|extension| extension.to_str()) {
        Some("html" | "htm") => "text/html",
        Some("txt") | None => "text/plain",
        Some(_) => "application/octet-stream",
    };
    Ok((file, metadata.len(), kind))
}
