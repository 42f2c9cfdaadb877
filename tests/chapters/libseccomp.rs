//! libseccomp, by its own functions: seccomp_init(3), seccomp_rule_add(3), seccomp_attr_set(3), seccomp_export_bpf(3). It is
//! the library that runc and others make their filters with. The tests take it as a judge, and `cargo bench` as a rival.

use std::ffi::{CStr, c_int, c_void};
use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::{AsRawFd, FromRawFd};

use cooperage::container::seccomp::profile::{Comparison, Profile};
use cooperage::container::seccomp::program::Instruction;

/// struct scmp_arg_cmp
#[repr(C)]
struct Compared {
    argument: u32,
    how: c_int,
    first: u64,
    second: u64,
}

fn function(name: &CStr) -> *mut c_void {
    // SAFETY: strings that end with a zero byte; the library stays loaded.
    let found =
        unsafe { libc::dlsym(libc::dlopen(c"libseccomp.so.2".as_ptr(), libc::RTLD_NOW), name.as_ptr()) };
    assert!(!found.is_null(), "{name:?}");
    found
}

/// Has this machine got it?
#[allow(dead_code)] // the tests ask the doctor
pub fn is_there() -> bool {
    // SAFETY: a string that ends with a zero byte.
    unsafe { !libc::dlopen(c"libseccomp.so.2".as_ptr(), libc::RTLD_NOW).is_null() }
}

/// How it arranges the calls.
#[derive(Debug, Clone, Copy)]
pub enum Order {
    /// One after the other, as it does unless it is told otherwise.
    List = 1,
    /// As a binary tree.
    #[allow(dead_code)] // the benchmark's
    Tree = 2,
}

/// The program that it makes of a profile.
pub fn compile(profile: &Profile, order: Order) -> Vec<Instruction> {
    const OPTIMIZE: c_int = 8; // SCMP_FLTATR_CTL_OPTIMIZE
    type Init = extern "C" fn(u32) -> *mut c_void;
    type Add = extern "C" fn(*mut c_void, u32, c_int, u32, *const Compared) -> c_int;
    type Set = extern "C" fn(*mut c_void, c_int, u32) -> c_int;
    type Export = extern "C" fn(*mut c_void, c_int) -> c_int;
    type Release = extern "C" fn(*mut c_void);
    // SAFETY: these are the types of the functions of these names, from seccomp.h.
    let (init, add, set, export, release) = unsafe {
        (
            std::mem::transmute::<*mut c_void, Init>(function(c"seccomp_init")),
            std::mem::transmute::<*mut c_void, Add>(function(c"seccomp_rule_add_exact_array")),
            std::mem::transmute::<*mut c_void, Set>(function(c"seccomp_attr_set")),
            std::mem::transmute::<*mut c_void, Export>(function(c"seccomp_export_bpf")),
            std::mem::transmute::<*mut c_void, Release>(function(c"seccomp_release")),
        )
    };
    let context = init(profile.default.0);
    assert!(!context.is_null());
    assert_eq!(set(context, OPTIMIZE, order as u32), 0);
    for (number, rules) in &profile.calls {
        // What is said to all others need not be said, and is not taken.
        for rule in rules.iter().filter(|rule| rule.action != profile.default) {
            let compared: Vec<Compared> = rule
                .conditions
                .iter()
                .map(|condition| {
                    let (how, first, second) = match condition.comparison {
                        Comparison::NotEqual(value) => (1, value, 0),
                        Comparison::Less(value) => (2, value, 0),
                        Comparison::LessOrEqual(value) => (3, value, 0),
                        Comparison::Equal(value) => (4, value, 0),
                        Comparison::GreaterOrEqual(value) => (5, value, 0),
                        Comparison::Greater(value) => (6, value, 0),
                        Comparison::Masked { mask, value } => (7, mask, value),
                    };
                    Compared { argument: condition.argument, how, first, second }
                })
                .collect();
            let added =
                add(context, rule.action.0, *number as c_int, compared.len() as u32, compared.as_ptr());
            assert_eq!(added, 0, "call {number}: {rule:?}");
        }
    }
    // SAFETY: a string that ends with a zero byte; the descriptor is new.
    let mut file = unsafe { File::from_raw_fd(libc::memfd_create(c"filter".as_ptr(), 0)) };
    assert_eq!(export(context, file.as_raw_fd()), 0);
    release(context);
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).expect("memory can be read");
    let instruction = |bytes: &[u8]| Instruction {
        code: u16::from_le_bytes([bytes[0], bytes[1]]),
        if_true: bytes[2],
        if_false: bytes[3],
        operand: u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
    };
    bytes.chunks_exact(8).map(instruction).collect()
}
