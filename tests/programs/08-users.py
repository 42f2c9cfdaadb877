#!/usr/bin/env python3
# passes: 8.1 8.3 8.4
#
# Chapter 8 in Python, by the system calls themselves. What is shared is mapped in a mount namespace of the runtime's, of which
# the container takes a copy.

import ctypes
import os
import stat
import sys
import warnings  # os.execvpe wants it, and by then it is out of reach

libc = ctypes.CDLL(None, use_errno=True)
NEWNS, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET = 0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
REC_PRIVATE, BIND, REC = 0x44000, 0x1000, 0x4000
OPEN_TREE, MOVE_MOUNT, MOUNT_SETATTR = 428, 429, 442


def call(result):
    if result < 0:
        errno = ctypes.get_errno()
        raise OSError(errno, os.strerror(errno))
    return result


def mount(source, target, kind=None, how=0, data=None):
    text = [part and part.encode() for part in (source, target, kind)]
    call(libc.mount(*text, ctypes.c_ulong(how), data and data.encode()))


def fail(what):
    print(what, file=sys.stderr)
    os._exit(125)


options = {"--rootfs": "/", "--map": "", "--shared": "", "--user": "", "--network": "none"}
words = sys.argv[1:]
while words and words[0] in options:
    options[words[0]], words = words[1], words[2:]
if words and words[0] == "--":
    words = words[1:]
command = words or ["/bin/sh"]

many = "4294967295" in open("/proc/self/uid_map").read()
line = options["--map"].replace(":", " ") or ("0 1610612736 65536" if many else "0 0 1")
count = int(line.split()[2])


def share(source, place, users):
    """The directory as those who are in this user namespace would see it if it were theirs."""
    tree = call(libc.syscall(OPEN_TREE, -100, source.encode(), 0x80001))
    # struct mount_attr: set, clear, propagation, descriptor of the namespace
    attributes = (ctypes.c_uint64 * 4)(0x100000, 0, 0, users)
    call(libc.syscall(MOUNT_SETATTR, tree, b"", 0x1000, attributes, 32))
    call(libc.syscall(MOVE_MOUNT, tree, b"", -100, place.encode(), 4))


def table(path):
    # A FIFO must not keep us waiting, nor anything else that is no file.
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(file).st_mode) or os.fstat(file).st_size > 1 << 20:
        raise ValueError(path + " is no list of users")
    return [text.split(":") for text in os.read(file, 1 << 20).decode().splitlines() if text]


def number(text):
    if not text.isdigit() or int(text) >= count:
        raise ValueError(text + " is nobody here")
    return int(text)


def become(name):
    fields = [fields for fields in table("/etc/passwd") if fields[0] == name][0]
    uid, gid = number(fields[2]), number(fields[3])
    groups = [number(group[2]) for group in table("/etc/group") if name in group[3].split(",")]
    if many:
        os.setgroups(groups)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def container():
    call(libc.unshare(NEWNS))
    mount("proc", "/mnt/proc", "proc")
    mount("tmpfs", "/run", "tmpfs")
    for directory in ("upper", "work", "root"):
        os.mkdir("/run/" + directory)
    layers = "lowerdir=/mnt,upperdir=/run/upper,workdir=/run/work,userxattr"
    mount("overlay", "/run/root", "overlay", 0, layers)
    mount("/mnt/proc", "/run/root/proc", None, BIND | REC)
    mount("tmpfs", "/run/root/tmp", "tmpfs")
    if options["--shared"]:
        target = "/run/root" + options["--shared"].split(":")[1]
        os.makedirs(target, exist_ok=True)
        mount("/srv", target, None, BIND | REC)
    os.chroot("/run/root")
    os.chdir("/")
    if options["--user"]:
        become(options["--user"])
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "TERM": "dumb", "HOME": "/root"}
    os.execvpe(command[0], command, environment)


def child(ready, go):
    call(libc.unshare(NEWUSER | NEWPID | NEWUTS | NEWIPC | NEWNET))
    os.write(ready, b"!")
    os.read(go, 1)
    if many:
        os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    first = os.fork()
    if first == 0:
        try:
            container()
        except Exception as error:
            fail(f"the container could not be made: {error!r}")
    _, status = os.waitpid(first, 0)
    os._exit(os.waitstatus_to_exitcode(status) % 256)


try:
    call(libc.unshare(NEWNS))
    mount(None, "/", None, REC_PRIVATE)
    mount(options["--rootfs"], "/mnt", None, BIND | REC)
    is_ready, ready = os.pipe()
    go, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        child(ready, go)
    os.read(is_ready, 1)
    for name in ("uid_map", "gid_map"):
        with open(f"/proc/{pid}/{name}", "w") as file:
            file.write(line)
    if options["--shared"]:
        share(options["--shared"].split(":")[0], "/srv", os.open(f"/proc/{pid}/ns/user", os.O_RDONLY))
    os.write(tell, b"!")
    _, status = os.waitpid(pid, 0)
    sys.exit(os.waitstatus_to_exitcode(status) % 256)
except (OSError, IndexError) as error:
    fail(f"the container could not be made: {error!r}")
