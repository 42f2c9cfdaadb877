//! The kernel's half, to try a program without loading it: what the kernel does with classic BPF.

use super::profile::Action;
use super::program::{
    AND, ARCHITECTURE, IF_EQUAL, IF_GREATER, IF_NOT_LESS, Instruction, JUMP, LOAD, NUMBER, RETURN,
};

/// What the program answers to this call.
pub fn run(program: &[Instruction], architecture: u32, number: u32, arguments: &[u64; 6]) -> Action {
    walk(program, architecture, number, arguments).0
}

/// How many instructions that takes.
pub fn steps(program: &[Instruction], architecture: u32, number: u32, arguments: &[u64; 6]) -> usize {
    walk(program, architecture, number, arguments).1
}

// ANCHOR: machine
fn walk(program: &[Instruction], architecture: u32, number: u32, arguments: &[u64; 6]) -> (Action, usize) {
    let (mut a, mut at, mut steps) = (0, 0, 0);
    while let Some(instruction) = program.get(at) {
        steps += 1;
        at += 1;
        let operand = instruction.operand;
        let mut branch =
            |is: bool| at += usize::from(if is { instruction.if_true } else { instruction.if_false });
        match instruction.code {
            LOAD => a = word(operand, architecture, number, arguments),
            AND => a &= operand,
            IF_EQUAL => branch(a == operand),
            IF_GREATER => branch(a > operand),
            IF_NOT_LESS => branch(a >= operand),
            JUMP => at += operand as usize,
            RETURN => return (Action(operand), steps),
            _ => break,
        }
    }
    // The kernel takes no program that could get here.
    (Action::KILL, steps)
}
// ANCHOR_END: machine

/// 32 bits of struct seccomp_data: number, architecture, the instruction's address, and six arguments.
fn word(offset: u32, architecture: u32, number: u32, arguments: &[u64; 6]) -> u32 {
    match offset {
        NUMBER => number,
        ARCHITECTURE => architecture,
        _ => {
            let argument = arguments.get((offset as usize).wrapping_sub(16) / 8).copied().unwrap_or(0);
            if offset.is_multiple_of(8) { argument as u32 } else { (argument >> 32) as u32 }
        }
    }
}
