//! Capabilities: the pieces into which the kernel divides root's power. See capabilities(7).

use std::fmt;

use nix::errno::Errno;

/// One of them, by its number: a kernel may have some that this program does not know by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Capability(pub u32);

/// The one table: what each is called, and its number in linux/capability.h.
macro_rules! capabilities {
    ($($name:ident $number:literal,)*) => {
        impl Capability {
            $(
                #[doc = concat!("CAP_", stringify!($name))]
                pub const $name: Capability = Capability($number);
            )*
            /// All that have a name.
            pub const KNOWN: &[Capability] = &[$(Capability($number)),*];

            /// Its name, such as "CAP_SYS_ADMIN", if it has one.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($number => Some(concat!("CAP_", stringify!($name))),)*
                    _ => None,
                }
            }
        }
    };
}

capabilities! {
    CHOWN 0,
    DAC_OVERRIDE 1,
    DAC_READ_SEARCH 2,
    FOWNER 3,
    FSETID 4,
    KILL 5,
    SETGID 6,
    SETUID 7,
    SETPCAP 8,
    LINUX_IMMUTABLE 9,
    NET_BIND_SERVICE 10,
    NET_BROADCAST 11,
    NET_ADMIN 12,
    NET_RAW 13,
    IPC_LOCK 14,
    IPC_OWNER 15,
    SYS_MODULE 16,
    SYS_RAWIO 17,
    SYS_CHROOT 18,
    SYS_PTRACE 19,
    SYS_PACCT 20,
    SYS_ADMIN 21,
    SYS_BOOT 22,
    SYS_NICE 23,
    SYS_RESOURCE 24,
    SYS_TIME 25,
    SYS_TTY_CONFIG 26,
    MKNOD 27,
    LEASE 28,
    AUDIT_WRITE 29,
    AUDIT_CONTROL 30,
    SETFCAP 31,
    MAC_OVERRIDE 32,
    MAC_ADMIN 33,
    SYSLOG 34,
    WAKE_ALARM 35,
    BLOCK_SUSPEND 36,
    AUDIT_READ 37,
    PERFMON 38,
    BPF 39,
    CHECKPOINT_RESTORE 40,
}

impl Capability {
    /// Is it in this set: a word of /proc/PID/status, such as `CapEff`?
    pub fn is_in(self, set: u64) -> bool {
        1_u64.checked_shl(self.0).is_some_and(|bit| set & bit != 0)
    }

    /// Does this kernel have it?
    pub fn is_known_to_kernel(self) -> bool {
        self.read_bounding_set() >= 0
    }

    /// Can a program that this process starts have it?
    pub fn is_in_bounding_set(self) -> bool {
        self.read_bounding_set() == 1
    }

    /// 1, 0, or -1 for an invalid number.
    fn read_bounding_set(self) -> libc::c_int {
        // SAFETY: numbers are all that this prctl takes.
        unsafe { libc::prctl(libc::PR_CAPBSET_READ, libc::c_ulong::from(self.0), 0, 0, 0) }
    }

    /// Keeps it from every program that this process starts from here on. One system call, which a child may
    /// make between fork and exec.
    pub fn drop_from_bounding_set(self) -> nix::Result<()> {
        // SAFETY: numbers are all that this prctl takes.
        let result = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(self.0), 0, 0, 0) };
        Errno::result(result).map(drop)
    }
}

/// By its name; by its number where it has none: "CAP_63".
impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "CAP_{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_kernels() {
        for (index, capability) in Capability::KNOWN.iter().enumerate() {
            assert_eq!(capability.0 as usize, index);
        }
        assert_eq!((Capability::KILL.0, Capability::SYS_PTRACE.0, Capability::SYS_ADMIN.0), (5, 19, 21));
        assert_eq!(Capability::CHECKPOINT_RESTORE.to_string(), "CAP_CHECKPOINT_RESTORE");
        assert_eq!(Capability(63).to_string(), "CAP_63");
    }

    #[test]
    fn a_set_is_a_word_of_bits() {
        assert!(Capability::CHOWN.is_in(0x401) && Capability::NET_BIND_SERVICE.is_in(0x401));
        assert!(!Capability::KILL.is_in(0x401) && !Capability(64).is_in(u64::MAX));
    }
}
