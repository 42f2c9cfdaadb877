#!/usr/bin/env python3
"""Prints src/container/seccomp/tables.rs, made of this machine's kernel headers (Debian: linux-libc-dev)."""

import re
import subprocess

HEAD = """//! The names of the system calls, and their numbers on each architecture. In the order of the names.
//!
//! Made of the kernel's headers, asm/unistd_64.h and asm-generic/unistd.h, by tests/seccomp-names.py; those newer than
//! Linux 6.1 have one number everywhere, from the kernel's scripts/syscall.tbl.
"""

# From 451 on, in this order, on every architecture.
NEWER = """cachestat fchmodat2 map_shadow_stack futex_wake futex_wait futex_requeue statmount listmount
lsm_get_self_attr lsm_set_self_attr lsm_list_modules mseal setxattrat getxattrat listxattrat removexattrat
open_tree_attr file_getattr file_setattr""".split()

# What arch/arm64/include/uapi/asm/unistd.h asks of the generic table.
AARCH64 = """#define __BITS_PER_LONG 64
#define __ARCH_WANT_RENAMEAT
#define __ARCH_WANT_NEW_STAT
#define __ARCH_WANT_SET_GET_RLIMIT
#define __ARCH_WANT_SYS_CLONE3
#define __ARCH_WANT_MEMFD_SECRET
#include <asm-generic/unistd.h>
"""


def table(source):
    printed = subprocess.run(["gcc", "-E", "-dM", "-"], input=source, text=True, capture_output=True, check=True)
    values = dict(re.findall(r"#define (__NR\w*) (\S+)", printed.stdout))
    numbers = {}
    for name, value in values.items():
        while value in values:
            value = values[value]
        if name.startswith("__NR_") and value.isdigit():
            numbers[name[len("__NR_"):]] = int(value)
    for no_call in ("syscalls", "arch_specific_syscall"):
        numbers.pop(no_call, None)
    for number, name in enumerate(NEWER, 451):
        numbers.setdefault(name, number)
    return numbers


def printed(constant, architecture, numbers):
    lines = [f"/// The calls of {architecture}.", "#[rustfmt::skip]", f"pub const {constant}: &[(&str, u32)] = &["]
    line = "   "
    for name in sorted(numbers):
        item = f' ("{name}", {numbers[name]}),'
        if len(line) + len(item) > 110:
            lines.append(line)
            line = "   "
        line += item
    return "\n".join([*lines, line, "];"])


print(HEAD)
print(printed("X86_64", "x86-64", table("#include <asm/unistd_64.h>\n")))
print()
print(printed("AARCH64", "aarch64", table(AARCH64)))
