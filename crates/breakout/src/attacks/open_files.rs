//! Open files without end.
//!
//! An open file is kernel memory, and the machine has a limit for all together (fs.file-max). A
//! process has one of its own (RLIMIT_NOFILE), but a container has as many processes as it likes. There is no
//! controller that counts open files. Ten processes open 9000 here, and where ten are not enough, fifty try.
//!
//! Chapter 9 stops it as far as it can be stopped: it can set the limit of a process (`--ulimit nofile=100` here), and with
//! `--pids-limit` the product of the two is bounded.

use std::fs::File;
use std::io::{Read, Write};

use crate::arena::Arena;
use crate::inside::{At, Inside, Stopped, child};
use crate::{Attack, End};

const WANTED: usize = 9000;
const EACH: usize = 900;
const PROCESSES: usize = 50;

pub const ATTACK: Attack = Attack {
    name: "open-files",
    title: "thousands of open files",
    won: "had 9000 files open",
    harmless: "",
    end: End::Chapter(9),
    because: "a limit of open files for each process, times --pids-limit, is a limit for the container",
    prepare: |arena: &mut Arena| {
        arena.limit("--pids-limit", "60")?;
        arena.limit("--ulimit", "nofile=100").map(drop)
    },
    attack,
    judge: |arena: &mut Arena, _| arena.new_open_files() >= WANTED,
};

fn attack(_: &Inside) -> Result<String, Stopped> {
    let (read, write) = nix::unistd::pipe().at("pipe()")?;
    let (mut read, mut write) = (File::from(read), File::from(write));
    let mut opened = 0;
    for _ in 0..PROCESSES {
        child(|| {
            let files: Vec<_> = (0..EACH).map_while(|_| File::open("/").ok()).collect();
            let _ = write.write_all(&(files.len() as u16).to_ne_bytes());
            nix::unistd::pause();
        })
        .at("fork()")?;
        let mut count = [0; 2];
        read.read_exact(&mut count).at("read(a pipe)")?;
        opened += usize::from(u16::from_ne_bytes(count));
        if opened >= WANTED {
            return Ok(String::new());
        }
    }
    Err(nix::errno::Errno::EMFILE).at("open(/)")
}
