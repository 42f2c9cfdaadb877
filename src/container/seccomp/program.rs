//! The filter's program, in the kernel's language for filters: classic BPF. See seccomp(2), and the kernel's
//! networking/filter document.
//!
//! It is a machine with one register, A, and three kinds of instructions that matter here: load 32 bits of what is known
//! about the call into A; jump, forward only, depending on A; return an answer. There is no loop, so a program always ends.

use super::profile::{Action, Comparison, Condition, Rule};
use super::tree::{Answer, Tree};

/// One instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// What is done.
    pub code: u16,
    /// How many instructions to leave out if it is so.
    pub if_true: u8,
    /// How many if it is not.
    pub if_false: u8,
    /// A number that goes with it.
    pub operand: u32,
}

/// A = 32 bits of struct seccomp_data, at this offset.
pub const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
/// A = A & operand.
pub const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
/// Jump, always.
pub const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
/// Is A this number?
pub const IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
/// Is A greater?
pub const IF_GREATER: u16 = 0x25; // BPF_JMP | BPF_JGT | BPF_K
/// Is A greater, or this number?
pub const IF_NOT_LESS: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
/// The answer.
pub const RETURN: u16 = 0x06; // BPF_RET | BPF_K

// ANCHOR: seccomp-data
/// Where things are in struct seccomp_data: what the kernel tells the program about a call.
pub const NUMBER: u32 = 0;
/// Which table of calls the number is in.
pub const ARCHITECTURE: u32 = 4;

/// The two halves of an argument. The lower one comes first, as on every little-endian machine.
fn halves(argument: u32) -> (u32, u32) {
    let low = 16 + 8 * argument;
    (low + 4, low)
}
// ANCHOR_END: seccomp-data

/// This machine's table: AUDIT_ARCH_X86_64 or AUDIT_ARCH_AARCH64 of linux/audit.h.
pub const AUDIT_ARCH: u32 = if cfg!(target_arch = "aarch64") { 0xc000_00b7 } else { 0xc000_003e };

/// From here on the numbers of x86-64 are those of x32 programs, with 32-bit pointers. No other machine has as many.
pub const X32: u32 = 0x4000_0000;

// ANCHOR: compile
/// The program for a tree. First of all it looks which table the number is in: an x86-64 kernel runs programs of three kinds,
/// and call 1 is write(2) for one and exit(2) for another.
///
/// Only one kind is let through here. A filter that forbids a few calls and forgot the other two kinds would forbid nothing.
pub fn compile(tree: &Tree) -> Vec<Instruction> {
    let no_such_call = Action::errno(libc::ENOSYS as u32);
    let mut program = vec![
        load(ARCHITECTURE),
        branch(IF_EQUAL, AUDIT_ARCH, 1, 0),
        give(no_such_call),
        load(NUMBER),
        branch(IF_NOT_LESS, X32, 0, 1),
        give(no_such_call),
    ];
    program.extend(search(tree));
    program
}

/// Halves the numbers until one range is left.
fn search(tree: &Tree) -> Vec<Instruction> {
    match tree {
        Tree::Leaf(Answer::Always(action)) => vec![give(*action)],
        Tree::Leaf(Answer::Depends(rules, otherwise)) => {
            let mut program: Vec<Instruction> = rules.iter().flat_map(check).collect();
            program.push(give(*otherwise));
            program
        }
        Tree::Node { first_of_right, left, right } => {
            let left = search(left);
            let mut program = match u8::try_from(left.len()) {
                Ok(distance) => vec![branch(IF_NOT_LESS, *first_of_right, distance, 0)],
                // A jump that depends has eight bits for the distance, one that does not has 32.
                Err(_) => vec![
                    branch(IF_NOT_LESS, *first_of_right, 0, 1),
                    Instruction { code: JUMP, if_true: 0, if_false: 0, operand: left.len() as u32 },
                ],
            };
            program.extend(left);
            program.extend(search(right));
            program
        }
    }
}
// ANCHOR_END: compile

// ANCHOR: check
/// Compares the arguments, and answers if all conditions hold. Otherwise the program goes on behind this.
fn check(rule: &Rule) -> Vec<Instruction> {
    let mut program = vec![give(rule.action)];
    // From the end to the beginning, so that it is known how far it is to what comes behind.
    for condition in rule.conditions.iter().rev() {
        let behind = program.len() as u8;
        let mut compared = compare(condition, behind);
        compared.extend(program);
        program = compared;
    }
    program
}

/// Goes on with the next instruction if the condition holds, and otherwise leaves out `behind` of those that follow.
///
/// A holds 32 bits and an argument has 64, so it is compared in two halves, the upper one first.
fn compare(condition: &Condition, behind: u8) -> Vec<Instruction> {
    let (high, low) = halves(condition.argument);
    let split = |value: u64| ((value >> 32) as u32, value as u32);
    match condition.comparison {
        Comparison::Equal(value) => {
            let (upper, lower) = split(value);
            vec![
                load(high),
                branch(IF_EQUAL, upper, 0, behind + 2),
                load(low),
                branch(IF_EQUAL, lower, 0, behind),
            ]
        }
        Comparison::NotEqual(value) => {
            let (upper, lower) = split(value);
            vec![load(high), branch(IF_EQUAL, upper, 0, 2), load(low), branch(IF_EQUAL, lower, behind, 0)]
        }
        Comparison::Greater(value) => ordered(high, low, split(value), IF_GREATER, 0, behind),
        Comparison::GreaterOrEqual(value) => ordered(high, low, split(value), IF_NOT_LESS, 0, behind),
        Comparison::LessOrEqual(value) => ordered(high, low, split(value), IF_GREATER, behind, 0),
        Comparison::Less(value) => ordered(high, low, split(value), IF_NOT_LESS, behind, 0),
        Comparison::Masked { mask, value } => {
            let masked = |half, mask, value, behind| {
                let and = Instruction { code: AND, if_true: 0, if_false: 0, operand: mask };
                vec![load(half), and, branch(IF_EQUAL, value, 0, behind)]
            };
            let ((upper_mask, lower_mask), (upper, lower)) = (split(mask), split(value));
            let mut program = masked(low, lower_mask, lower, behind);
            if (upper_mask, upper) != (0, 0) {
                program.splice(0..0, masked(high, upper_mask, upper, behind + 3));
            }
            program
        }
    }
}

/// If the upper halves differ they decide, and otherwise `last` does about the lower ones.
fn ordered(
    high: u32,
    low: u32,
    (upper, lower): (u32, u32),
    last: u16,
    is: u8,
    is_not: u8,
) -> Vec<Instruction> {
    // Behind each of these, the rest of the five is left out too.
    let from = |index: u8, distance: u8| distance + 4 - index;
    vec![
        load(high),
        branch(IF_GREATER, upper, from(1, is), 0),
        branch(IF_EQUAL, upper, 0, from(2, is_not)),
        load(low),
        branch(last, lower, is, is_not),
    ]
}
// ANCHOR_END: check

fn load(offset: u32) -> Instruction {
    Instruction { code: LOAD, if_true: 0, if_false: 0, operand: offset }
}

fn branch(code: u16, operand: u32, if_true: u8, if_false: u8) -> Instruction {
    Instruction { code, if_true, if_false, operand }
}

fn give(action: Action) -> Instruction {
    Instruction { code: RETURN, if_true: 0, if_false: 0, operand: action.0 }
}

impl Instruction {
    /// As struct sock_filter of linux/filter.h.
    pub fn for_kernel(&self) -> libc::sock_filter {
        libc::sock_filter { code: self.code, jt: self.if_true, jf: self.if_false, k: self.operand }
    }

    /// What it does, as the instruction with this number.
    pub fn shown(&self, number: usize) -> String {
        let target = |distance: u32| number + 1 + distance as usize;
        let compared = match self.code {
            IF_EQUAL => "==",
            IF_GREATER => ">",
            _ => ">=",
        };
        match self.code {
            LOAD => format!("A = {}", field(self.operand)),
            AND => format!("A = A & {:#x}", self.operand),
            JUMP => format!("go to {}", target(self.operand)),
            RETURN => format!("answer {}", Action(self.operand)),
            _ => {
                let (yes, no) = (target(self.if_true.into()), target(self.if_false.into()));
                format!("if A {compared} {:#x} go to {yes}, else to {no}", self.operand)
            }
        }
    }
}

fn field(offset: u32) -> String {
    match offset {
        NUMBER => "the call's number".to_string(),
        ARCHITECTURE => "its architecture".to_string(),
        _ => {
            let half = if offset.is_multiple_of(8) { "low" } else { "high" };
            format!("argument {}, {half} half", (offset - 16) / 8)
        }
    }
}

impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let data = self.0 & 0xffff;
        match self.0 & 0xffff_0000 {
            0x7fff_0000 => f.write_str("allow"),
            0x7ffc_0000 => f.write_str("allow, and log it"),
            0x7ff0_0000 => f.write_str("ask the tracer"),
            0x0005_0000 => write!(f, "{:?}", nix::errno::Errno::from_raw(data as i32)),
            0x0003_0000 => f.write_str("SIGSYS"),
            0x8000_0000 => f.write_str("kill the process"),
            _ => f.write_str("kill the thread"),
        }
    }
}
