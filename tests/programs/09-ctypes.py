#!/usr/bin/env python3
# passes: 9.1 9.2 9.3 9.4
#
# Chapter 9 in Python, by the system calls themselves. The filter is assembled from names, with the distances of its jumps worked
# out from labels. What is masked is mounted over by the path of its descriptor in /proc/self/fd, as runc does it.

import ctypes
import errno
import os
import platform
import stat
import struct
import sys
import warnings  # os.execvpe wants it, and by then it is out of reach

libc = ctypes.CDLL(None, use_errno=True)
ARM = platform.machine() == "aarch64"
CALLS = {"mkdirat": 34, "ioctl": 29, "capset": 91} if ARM else {"mkdirat": 258, "mkdir": 83, "ioctl": 16, "capset": 126}
CALLS["clone3"] = 435
ARCHITECTURE = 0xC00000B7 if ARM else 0xC000003E
LOAD, EQUAL, GREATER_OR_EQUAL, RETURN = 0x20, 0x15, 0x35, 0x06
ALLOW, REFUSE, EPERM, ENOSYS, TIOCSTI = 0x7FFF0000, 0x50000, 1, 38, 0x5412
CAPBSET_READ, CAPBSET_DROP, KEEP_OUT, SET_SECCOMP, AMBIENT, CLEAR_ALL = 23, 24, 38, 22, 47, 4
NAMES = """chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable net_bind_service
net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot sys_ptrace sys_pacct sys_admin sys_boot sys_nice
sys_resource sys_time sys_tty_config mknod lease audit_write audit_control setfcap mac_override mac_admin syslog wake_alarm
block_suspend audit_read perfmon bpf checkpoint_restore""".split()


def call(result):
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def mount(source, target, kind=None, how=0, data=None):
    text = [part and part.encode() for part in (source, target, kind)]
    call(libc.mount(*text, ctypes.c_ulong(how), data and data.encode()))


def program():
    """Instructions as (code, operand, label if so, label if not), with labels as plain words between them."""
    listing = [(LOAD, 4), (EQUAL, ARCHITECTURE, "ours", "none"), "ours", (LOAD, 0), (GREATER_OR_EQUAL, 0x40000000, "none", "known"), "known"]
    for name in [name for name in ("mkdir", "mkdirat") if name in CALLS]:
        listing += [(EQUAL, CALLS[name], "refused", "after " + name), "after " + name]
    listing += [(EQUAL, CALLS["clone3"], "none", "after clone3"), "after clone3"]
    listing += [(EQUAL, CALLS["ioctl"], "request", "allowed"), "request", (LOAD, 24), (EQUAL, TIOCSTI, "refused", "allowed")]
    listing += ["allowed", (RETURN, ALLOW), "refused", (RETURN, REFUSE | EPERM), "none", (RETURN, REFUSE | ENOSYS)]
    places, instructions = {}, []
    for line in listing:
        if isinstance(line, str):
            places[line] = len(instructions)
        else:
            instructions.append(line)

    def placed(index, line):
        distances = [places[label] - index - 1 for label in line[2:]] or [0, 0]
        return (line[0], *distances, line[1])

    return [placed(index, line) for index, line in enumerate(instructions)]


def load(instructions):
    text = b"".join(struct.pack("<HBBI", *instruction) for instruction in instructions)
    room = ctypes.create_string_buffer(text, len(text))
    whole = struct.pack("<HxxxxxxQ", len(instructions), ctypes.addressof(room))
    call(libc.prctl(KEEP_OUT, 1, 0, 0, 0))
    call(libc.prctl(SET_SECCOMP, 2, whole, 0, 0))


def keep(names):
    wanted = 0
    for name in [] if names == "none" else names.lower().split(","):
        wanted |= 1 << NAMES.index(name.removeprefix("cap_"))
    number = 0
    while libc.prctl(CAPBSET_READ, number, 0, 0, 0) >= 0:
        if not wanted >> number & 1:
            call(libc.prctl(CAPBSET_DROP, number, 0, 0, 0))
        number += 1
    call(libc.prctl(AMBIENT, CLEAR_ALL, 0, 0, 0))
    low, high = wanted & 0xFFFFFFFF, wanted >> 32
    header, sets = struct.pack("<II", 0x20080522, 0), struct.pack("<IIIIII", low, low, 0, high, high, 0)
    call(libc.syscall(CALLS["capset"], header, sets))


def mask(root, name):
    # struct open_how: O_PATH | O_CLOEXEC, no mode, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS
    how = struct.pack("<QQQ", 0x280000, 0, 0xC)
    target = libc.syscall(437, root, name.strip("/").encode(), how, len(how))
    if target < 0 and ctypes.get_errno() == errno.ENOENT:
        return
    place = f"/proc/self/fd/{call(target)}"
    if stat.S_ISDIR(os.stat(place).st_mode):
        mount("tmpfs", place, "tmpfs", 0x1, "size=4k,mode=555")
        return
    null = os.open("/dev/null", os.O_PATH)
    found = os.fstat(null)
    if not stat.S_ISCHR(found.st_mode) or found.st_rdev != os.makedev(1, 3):
        raise OSError(errno.EINVAL, "/dev/null is something else")
    mount(f"/proc/self/fd/{null}", place, None, 0x1000)


def become(user):
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    call(libc.prctl(KEEP_OUT, 1, 0, 0, 0))


def fail(what):
    print(what, file=sys.stderr)
    os._exit(125)


options = {"--rootfs": "/", "--keep": "", "--user": "", "--network": "none"}
words, filtered, masked = sys.argv[1:], False, []
while words and words[0] in [*options, "--mask", "--filter", "--print-filter"]:
    if words[0] == "--print-filter":
        print("\n".join(" ".join(map(str, instruction)) for instruction in program()))
        sys.exit(0)
    if words[0] == "--filter":
        filtered, words = True, words[1:]
    elif words[0] == "--mask":
        masked, words = [*masked, words[1]], words[2:]
    else:
        options[words[0]], words = words[1], words[2:]
if words and words[0] == "--":
    words = words[1:]
command = words or ["/bin/sh"]


def container():
    mount("proc", "/mnt/proc", "proc")
    mount("tmpfs", "/mnt/tmp", "tmpfs")
    root = os.open("/mnt", os.O_PATH)
    for name in masked:
        mask(root, name)
    os.chroot("/mnt")
    os.chdir("/")
    if filtered:
        load(program())
    if options["--keep"]:
        keep(options["--keep"])
    if options["--user"]:
        become(int(options["--user"]))
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "TERM": "dumb", "HOME": "/root"}
    os.execvpe(command[0], command, environment)


try:
    own = 0 if os.geteuid() == 0 else 0x10000000
    user, group = os.geteuid(), os.getegid()
    call(libc.unshare(own | 0x20000 | 0x4000000 | 0x8000000 | 0x20000000 | 0x40000000))
    if own:
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
            with open("/proc/self/" + name, "w") as file:
                file.write(text)
    mount(None, "/", None, 0x44000)
    mount(options["--rootfs"], "/mnt", None, 0x5000)
    first = os.fork()
    if first == 0:
        try:
            container()
        except Exception as error:
            fail(f"the container could not be made: {error!r}")
    _, status = os.waitpid(first, 0)
    sys.exit(os.waitstatus_to_exitcode(status) % 256)
except OSError as error:
    fail(f"the container could not be made: {error!r}")
