//! System calls by their numbers, for the grader: what a container's filter and its lack of rights answer to them.
//!
//! `witness calls 105,0 16,0,21522` makes call 105 with one argument and call 16 with two, and prints a line for each: the
//! name of the error, or `done`. `i386:20` makes call 20 as a program of i386 does.

use std::io::Write;

use nix::errno::Errno;

/// Makes these calls, and returns the exit status.
pub fn main(words: &[String]) -> i32 {
    for word in words {
        let Some(answer) = answer(word) else {
            eprintln!("witness: {word:?} is no call: NUMBER,ARGUMENT... or i386:NUMBER");
            return 2;
        };
        let text = match answer {
            Ok(()) => "done".to_string(),
            Err(errno) => format!("{errno:?}"),
        };
        // At once: the next call may be the last.
        let mut out = std::io::stdout();
        if writeln!(out, "{text}").and_then(|()| out.flush()).is_err() {
            return 1;
        }
    }
    0
}

fn answer(word: &str) -> Option<nix::Result<()>> {
    if let Some(number) = word.strip_prefix("i386:") {
        return Some(call_of_i386(number.parse().ok()?));
    }
    let numbers: Vec<libc::c_long> = word.split(',').map(str::parse).collect::<Result<_, _>>().ok()?;
    let (&number, arguments) = numbers.split_first()?;
    let mut all = [0; 6];
    all.get_mut(..arguments.len())?.copy_from_slice(arguments);
    let [a, b, c, d, e, f] = all;
    // SAFETY: whoever starts this process chooses the call, and what it does to this process is all that can go wrong.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    Some(Errno::result(result).map(drop))
}

/// By the interrupt that programs of i386 use. Where the kernel has no such calls, it is a fault that ends this process.
#[cfg(target_arch = "x86_64")]
fn call_of_i386(number: i32) -> nix::Result<()> {
    let result: i32;
    // SAFETY: as above. The kernel keeps all registers but the one with the result; older ones clear r8 to r11.
    unsafe {
        std::arch::asm!(
            "int 0x80",
            inlateout("eax") number => result,
            in("ecx") 0,
            in("edx") 0,
            in("esi") 0,
            in("edi") 0,
            out("r8") _,
            out("r9") _,
            out("r10") _,
            out("r11") _,
        );
    }
    if result < 0 { Err(Errno::from_raw(-result)) } else { Ok(()) }
}

#[cfg(not(target_arch = "x86_64"))]
fn call_of_i386(_number: i32) -> nix::Result<()> {
    Err(Errno::ENOSYS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_answer_is_told() {
        assert_eq!(answer(&libc::SYS_getppid.to_string()), Some(Ok(())));
        assert_eq!(answer(&format!("{},-1", libc::SYS_close)), Some(Err(Errno::EBADF)));
        for word in ["", "x", "1,", "1,2,3,4,5,6,7,8", "i386:"] {
            assert_eq!(answer(word), None, "{word}");
        }
    }
}
