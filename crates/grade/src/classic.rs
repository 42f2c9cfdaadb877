//! What the kernel does with a filter: all of classic BPF that seccomp(2) takes. The chapter's own programs use seven
//! instructions of it, and an answer may use any.

use cooperage::container::seccomp::program::Instruction;

/// struct seccomp_data, in words: number, architecture, the instruction's address, and six arguments.
pub type Call = [u32; 16];

/// A call, as the kernel describes it to the filter.
pub fn call(architecture: u32, number: u32, arguments: [u64; 6]) -> Call {
    let mut words = [0; 16];
    words[..4].copy_from_slice(&[number, architecture, 0x1234, 0]);
    for (place, argument) in words[4..].chunks_mut(2).zip(arguments) {
        place.copy_from_slice(&[argument as u32, (argument >> 32) as u32]);
    }
    words
}

/// What the program answers; nothing if it does what the kernel does not let a filter do.
pub fn run(program: &[Instruction], call: &Call) -> Option<u32> {
    let (mut a, mut x, mut memory, mut at) = (0_u32, 0_u32, [0_u32; 16], 0_usize);
    loop {
        let Instruction { code, if_true, if_false, operand: k } = *program.get(at)?;
        at += 1;
        let index = k as usize;
        let other = if code & 0x08 == 0 { k } else { x };
        match code {
            0x20 if k.is_multiple_of(4) => a = *call.get(index / 4)?,
            0x80 => a = 64, // how long the description is
            0x81 => x = 64,
            0x00 => a = k,
            0x01 => x = k,
            0x60 => a = *memory.get(index)?,
            0x61 => x = *memory.get(index)?,
            0x02 => *memory.get_mut(index)? = a,
            0x03 => *memory.get_mut(index)? = x,
            0x07 => x = a,
            0x87 => a = x,
            0x05 => at = at.checked_add(index)?,
            0x06 => return Some(k),
            0x16 => return Some(a),
            0x84 => a = a.wrapping_neg(),
            0x04 | 0x0c => a = a.wrapping_add(other),
            0x14 | 0x1c => a = a.wrapping_sub(other),
            0x24 | 0x2c => a = a.wrapping_mul(other),
            0x34 => a = a.checked_div(k)?,
            0x3c => match a.checked_div(x) {
                Some(quotient) => a = quotient,
                None => return Some(0), // so the kernel does: the filter's answer is 0
            },
            0x44 | 0x4c => a |= other,
            0x54 | 0x5c => a &= other,
            0x64 | 0x6c => a = a.wrapping_shl(other),
            0x74 | 0x7c => a = a.wrapping_shr(other),
            0xa4 | 0xac => a ^= other,
            _ => {
                let is = match code {
                    0x15 | 0x1d => a == other,
                    0x25 | 0x2d => a > other,
                    0x35 | 0x3d => a >= other,
                    0x45 | 0x4d => a & other != 0,
                    _ => return None,
                };
                at += usize::from(if is { if_true } else { if_false });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(lines: &[(u16, u8, u8, u32)]) -> Vec<Instruction> {
        let one = |&(code, if_true, if_false, operand)| Instruction { code, if_true, if_false, operand };
        lines.iter().map(one).collect()
    }

    #[test]
    fn each_word_is_where_the_kernel_has_it() {
        let call = call(7, 5, [0x1_0000_0002, 0, 0, 0, 0, 0x3_0000_0004]);
        let word = |offset| run(&program(&[(0x20, 0, 0, offset), (0x16, 0, 0, 0)]), &call);
        assert_eq!([0, 4, 16, 20, 56, 60].map(word), [5, 7, 2, 1, 4, 3].map(Some));
        assert_eq!([2, 64].map(word), [None, None]);
    }

    #[test]
    fn jumps_memory_and_arithmetic() {
        let call = call(7, 5, [0; 6]);
        // A = 5, X = A, A = (A << 2) ^ X = 17, kept and loaded again; then not equal to 18 and not less than 17.
        let lines = [
            (0x20, 0, 0, 0),
            (0x07, 0, 0, 0),
            (0x64, 0, 0, 2),
            (0xac, 0, 0, 0),
            (0x02, 0, 0, 3),
            (0x00, 0, 0, 99),
            (0x60, 0, 0, 3),
            (0x15, 1, 0, 18),
            (0x35, 1, 0, 17),
            (0x06, 0, 0, 1),
            (0x06, 0, 0, 2),
        ];
        assert_eq!(run(&program(&lines), &call), Some(2));
        assert_eq!(run(&program(&[(0x05, 0, 0, 1), (0x06, 0, 0, 1)]), &call), None);
        assert_eq!(run(&program(&[(0x3c, 0, 0, 0), (0x06, 0, 0, 1)]), &call), Some(0));
    }
}
