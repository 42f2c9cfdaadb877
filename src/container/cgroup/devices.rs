//! Chapter 9: which devices a cgroup of version 2 may use. Version 1 has a controller with a list. Version 2 has none: one
//! attaches a program to the cgroup, and the kernel runs it whenever somebody in there opens a device or makes a node.
//!
//! The language is the newer BPF. It has ten registers of 64 bits; r1 holds the address of what the program is asked about;
//! r0 is the answer, 1 for yes. See bpf(2), and the kernel's bpf/standardization/instruction-set document.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use crate::container::power::devices::{Kind, Rule};
use crate::container::sys;
use crate::told::errors::{Error, Result};
use crate::told::explain;

/// One instruction: the operation, two registers, the distance of a jump, a number. Eight bytes.
fn instruction(code: u8, to: u8, from: u8, offset: i16, number: i32) -> u64 {
    let [low, high] = offset.to_le_bytes();
    let [a, b, c, d] = number.to_le_bytes();
    u64::from_le_bytes([code, from << 4 | to, low, high, a, b, c, d])
}

const LOAD: u8 = 0x61; // to = 32 bits at (from + offset)
const COPY: u8 = 0xbc; // to = from, 32 bits
const SET: u8 = 0xb4; // to = number
const AND: u8 = 0x54; // to = to & number
const SHIFT: u8 = 0x74; // to = to >> number
const IF_OTHER: u8 = 0x55; // leave out `offset` instructions if to is not the number
const EXIT: u8 = 0x95;

// ANCHOR: devices-program
/// The program for these rules. It is asked with struct bpf_cgroup_dev_ctx of linux/bpf.h: the kind of device and what is
/// wanted, in two halves of a number; major; minor.
pub fn program(rules: &[Rule]) -> Vec<u64> {
    let (asked, kind_of, wanted, major, minor, rest) = (1, 2, 3, 4, 5, 6);
    let mut program = vec![
        instruction(LOAD, kind_of, asked, 0, 0),
        instruction(COPY, wanted, kind_of, 0, 0),
        instruction(AND, kind_of, 0, 0, 0xffff),
        instruction(SHIFT, wanted, 0, 0, 16),
        instruction(LOAD, major, asked, 4, 0),
        instruction(LOAD, minor, asked, 8, 0),
    ];
    for rule in rules {
        let kind = if rule.kind == Kind::Block { 1 } else { 2 };
        let allowed = rule.access.bits();
        // What is wanted and not allowed by this rule: there must be nothing left of it.
        let mut steps =
            vec![(IF_OTHER, kind_of, kind), (COPY, rest, 0), (AND, rest, !allowed & 7), (IF_OTHER, rest, 0)];
        let number = |number: Option<u64>, register| number.map(|number| (IF_OTHER, register, number as i32));
        steps.extend(number(rule.major, major).into_iter().chain(number(rule.minor, minor)));
        let length = steps.len();
        for (index, (code, to, number)) in steps.into_iter().enumerate() {
            let from = if code == COPY { wanted } else { 0 };
            // To the next rule: what is left of this one, and its answer.
            let onward = if code == IF_OTHER { (length - index - 1 + 2) as i16 } else { 0 };
            program.push(instruction(code, to, from, onward, number));
        }
        program.extend([instruction(SET, 0, 0, 0, 1), instruction(EXIT, 0, 0, 0, 0)]);
    }
    program.extend([instruction(SET, 0, 0, 0, 0), instruction(EXIT, 0, 0, 0, 0)]);
    program
}
// ANCHOR_END: devices-program

// ANCHOR: devices-attach
/// Has the kernel ask the program about every device that is opened in the cgroup `directory`, and below. Only root may; an
/// ordinary user's containers can use no device that the user cannot.
pub fn allow(directory: &Path, rules: &[Rule]) -> Result<()> {
    const WHY: &str = "open the cgroup";
    let how = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let cgroup: OwnedFd = nix::fcntl::open(directory, how, Mode::empty())
        .map_err(|errno| Error::call(WHY, format!("open({})", directory.display()), errno))?;
    let loaded = sys::bpf_load_for_devices("have a program that knows the devices", &program(rules));
    let attached = loaded.and_then(|program| {
        sys::bpf_attach_to_cgroup("ask it about each device", program.as_fd(), cgroup.as_fd())
    });
    match attached {
        Err(error) if matches!(error.errno(), Some(Errno::EPERM | Errno::EACCES | Errno::ENOSYS)) => {
            explain::remark(
                "only root can have devices asked about by number: here there are those that have a name",
            );
            Ok(())
        }
        result => result,
    }
}
// ANCHOR_END: devices-attach

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::power::devices::usual_rules;

    /// What the kernel would answer: as far as these programs go.
    fn ask(program: &[u64], kind: u32, wanted: u32, major: u32, minor: u32) -> u64 {
        let mut registers = [0_u64; 11];
        let mut at = 0;
        loop {
            let [code, both, low, high, a, b, c, d] = program[at].to_le_bytes();
            let (to, from) = (usize::from(both & 15), usize::from(both >> 4));
            let (offset, number) = (i16::from_le_bytes([low, high]), i32::from_le_bytes([a, b, c, d]));
            at += 1;
            match code {
                LOAD => registers[to] = u64::from([wanted << 16 | kind, major, minor][offset as usize / 4]),
                COPY => registers[to] = registers[from],
                SET => registers[to] = number as u64,
                AND => registers[to] &= u64::from(number as u32),
                SHIFT => registers[to] >>= number,
                IF_OTHER if registers[to] != number as u64 => at += offset as usize,
                IF_OTHER => {}
                EXIT => return registers[0],
                _ => return u64::MAX, // none of ours
            }
        }
    }

    #[test]
    fn the_program_says_what_the_rules_say() {
        let (block, character, node, read, write) = (1, 2, 1, 2, 4);
        let null: crate::container::power::devices::Device = "/dev/null:r".parse().expect("a device");
        let only = program(&[null.rule().expect("it is there")]);
        assert_eq!(ask(&only, character, read, 1, 3), 1);
        for (kind, wanted, major, minor) in [
            (character, write, 1, 3),
            (character, read | write, 1, 3),
            (character, node, 1, 3),
            (block, read, 1, 3),
            (character, read, 1, 5),
            (character, read, 3, 1),
        ] {
            assert_eq!(ask(&only, kind, wanted, major, minor), 0, "{kind} {wanted} {major}:{minor}");
        }
        let usual = program(&usual_rules());
        assert_eq!(ask(&usual, block, node, 8, 0), 1);
        assert_eq!(ask(&usual, block, read, 8, 0), 0);
        assert_eq!(ask(&usual, character, read | write, 136, 77), 1);
        assert_eq!(ask(&usual, character, read | write, 1, 9), 1);
        assert_eq!(ask(&usual, character, read, 1, 1), 0, "the machine's memory");
        assert_eq!(ask(&program(&[]), character, node, 1, 3), 0);
    }
}
