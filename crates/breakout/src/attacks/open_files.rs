//! Open files without end.
//!
//! An open file is kernel memory, and the machine has a limit for all together (fs.file-max). A
//! process has one of its own (RLIMIT_NOFILE), but a container has as many processes as it likes. There is no
//! controller that counts open files. Ten processes open 9000 here.
//!
//! Chapter 9 stops it as far as it can be stopped: it sets the limit of a process, and with `--pids-limit`
//! the product of the two is bounded.

use std::fs::File;
use std::io::{Read, Write};

use crate::arena::{self, Arena};
use crate::inside::{At, Inside, Stopped, child};
use crate::{Attack, End};

const PROCESSES: usize = 10;
const EACH: usize = 900;

pub const ATTACK: Attack = Attack {
    name: "open-files",
    title: "thousands of open files",
    won: "had 9000 files open",
    harmless: "",
    end: End::Later(9),
    because: "a limit of open files for each process, times --pids-limit, is a limit for the container",
    prepare: arena::nothing,
    attack,
    judge: |arena: &mut Arena, _| arena.new_open_files() >= PROCESSES * EACH,
};

fn attack(_: &Inside) -> Result<String, Stopped> {
    let (read, write) = nix::unistd::pipe().at("pipe()")?;
    let (mut read, mut write) = (File::from(read), File::from(write));
    for _ in 0..PROCESSES {
        child(|| {
            let files: Vec<_> = (0..EACH).map_while(|_| File::open("/").ok()).collect();
            let _ = write.write_all(&[u8::from(files.len() == EACH)]);
            nix::unistd::pause();
        })
        .at("fork()")?;
    }
    let mut words = [0; PROCESSES];
    read.read_exact(&mut words).at("read(a pipe)")?;
    if words.contains(&0) {
        return Err(nix::errno::Errno::EMFILE).at("open(/)");
    }
    Ok(String::new())
}
