//! The canary that is a process: it lives on the host, run by the user who starts the container, and holds the
//! word in every place that a host's process may keep something in.

use std::ffi::CStr;
use std::io::{Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process::ExitCode;
use std::time::Duration;

use nix::errno::Errno;

/// The argument that makes this program the victim; the word comes after it.
pub const MODE: &str = "@victim";
/// The key of the System V segment and queue.
pub const KEY: libc::key_t = 0x000c_0de1;
/// The name of the POSIX message queue.
pub const QUEUE: &CStr = c"/cooperage-canary";
/// POSIX shared memory, where shm_open(3) puts it.
pub const SHARED: &str = "/dev/shm/cooperage-canary";
/// The name of the abstract socket.
pub const SOCKET: &str = "cooperage-canary";
/// How long the word is, in bytes.
pub const WORD: usize = 16;

/// A System V message.
#[repr(C)]
pub struct Letter {
    /// Greater than 0.
    pub kind: libc::c_long,
    /// What it says.
    pub text: [u8; WORD],
}

/// If this process was started to be the victim, it is that from here on.
pub fn take_over() -> Option<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() != Some(MODE) {
        return None;
    }
    let word = arguments.next().unwrap_or_default();
    Some(match live(&word) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cooperage: the victim can't live: {error}");
            ExitCode::FAILURE
        }
    })
}

fn live(word: &str) -> std::io::Result<()> {
    let bytes: [u8; WORD] =
        word.as_bytes().try_into().map_err(|_| std::io::Error::other("its word has another length"))?;
    let memory: &'static [u8; WORD] = Box::leak(Box::new(bytes));
    // Where Yama guards ptrace(2), it would hide what namespaces do about it.
    // SAFETY: numbers are all that this prctl takes.
    unsafe { libc::prctl(libc::PR_SET_PTRACER, libc::PR_SET_PTRACER_ANY, 0, 0, 0) };
    keep_in_ipc(memory)?;
    std::fs::write(SHARED, word)?;
    std::fs::set_permissions(SHARED, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;

    let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(SOCKET)?)?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            let _ = stream.write_all(memory);
        }
    });
    // What an eavesdropper on the host's network hears.
    let sender = std::net::UdpSocket::bind("127.0.0.1:0")?;
    std::thread::spawn(move || {
        loop {
            // Nobody listens at port 9 ("discard"): the error comes with the next packet, and means nothing.
            let _ = sender.send_to(memory, "127.0.0.1:9");
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    println!("{}", memory.as_ptr() as usize);
    let _ = std::io::stdin().read(&mut [0]);
    Ok(())
}

fn keep_in_ipc(word: &[u8; WORD]) -> nix::Result<()> {
    let how = libc::IPC_CREAT | 0o600;
    // SAFETY: the segment is as large as what is copied into it, and stays attached.
    unsafe {
        let segment = Errno::result(libc::shmget(KEY, WORD, how))?;
        let place = super::inside::pointer(libc::shmat(segment, std::ptr::null(), 0))?;
        std::ptr::copy_nonoverlapping(word.as_ptr(), place.cast::<u8>(), WORD);
    }
    let letter = Letter { kind: 1, text: *word };
    // SAFETY: the letter lives through the call, and is as long as it is said to be.
    unsafe {
        let queue = Errno::result(libc::msgget(KEY, how))?;
        Errno::result(libc::msgsnd(queue, (&raw const letter).cast(), WORD, 0))?;
    }
    // SAFETY: the attributes are plain numbers, for which zero is a value; name and word outlive the calls.
    unsafe {
        let mut attributes: libc::mq_attr = std::mem::zeroed();
        attributes.mq_maxmsg = 1;
        attributes.mq_msgsize = WORD as libc::c_long;
        let how = libc::O_CREAT | libc::O_RDWR;
        let queue = Errno::result(libc::mq_open(QUEUE.as_ptr(), how, 0o600, &raw const attributes))?;
        Errno::result(libc::mq_send(queue, word.as_ptr().cast(), WORD, 0)).map(drop)
    }
}
