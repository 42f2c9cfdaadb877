#!/usr/bin/env python3
# passes: 4.1 4.2 4.3
"""Chapter 4 in Python, with the C library's system calls: unshare, fork, and chroot for pivot_root."""
import ctypes, os, signal, sys

NEWNS, NEWUTS, NEWIPC, NEWPID = 0x20000, 0x4000000, 0x8000000, 0x20000000
MS_BIND, MS_MOVE, MS_REC, MS_PRIVATE = 0x1000, 0x2000, 0x4000, 0x40000
libc = ctypes.CDLL(None, use_errno=True)


def call(name, *arguments):
    plain = [a.encode() if isinstance(a, str) else a for a in arguments]
    if getattr(libc, name)(*plain) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}{arguments}: {os.strerror(number)}")


def mount(source, target, kind, flags=0, data=None):
    os.makedirs(target, exist_ok=True)
    call("mount", source, target, kind, ctypes.c_ulong(flags), data)


def write(path, text):
    if os.path.islink(path):
        os.unlink(path)
    with open(path, "w") as file:
        file.write(text)


def become(command):
    path = "/usr/sbin:/usr/bin:/sbin:/bin"
    environment = {"PATH": path, "HOME": "/root", "TERM": "dumb"}
    directories = [""] if "/" in command[0] else [directory + "/" for directory in path.split(":")]
    status = 127
    for directory in directories:
        try:
            os.execve(directory + command[0], command, environment)
        except FileNotFoundError:
            pass
        except OSError:
            status = 126
    os._exit(status)


def furnish(rootfs, name):
    mount(None, "/", None, MS_REC | MS_PRIVATE)
    mount("tmpfs", "/mnt", "tmpfs")
    for directory in ("upper", "work", "root"):
        os.mkdir(f"/mnt/{directory}")
    mount("overlay", "/mnt/root", "overlay", 0, f"lowerdir={rootfs},upperdir=/mnt/upper,workdir=/mnt/work")
    os.chdir("/mnt/root")
    call("sethostname", name, len(name))
    write("etc/hostname", name + "\n")
    write("etc/hosts", f"127.0.0.1\tlocalhost {name}\n")
    for kind, where in ("proc", "proc"), ("tmpfs", "dev"), ("mqueue", "dev/mqueue"), ("tmpfs", "dev/shm"):
        mount(kind, where, kind)
    write("dev/null", "")
    call("mount", "/dev/null", "dev/null", None, ctypes.c_ulong(MS_BIND), None)
    mount(".", "/", None, MS_MOVE)
    os.chroot(".")
    os.chdir("/")


def wait_for(pid):
    for number in signal.SIGTERM, signal.SIGINT:
        signal.signal(number, lambda *_: os.kill(pid, signal.SIGKILL))
    status = os.waitpid(pid, 0)[1]
    sys.exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status))


def join(pid, command):
    root = os.open(f"/proc/{pid}/root", os.O_RDONLY)
    # A pidfd stands for all the namespaces of a process: setns(2), since Linux 5.8.
    process = os.pidfd_open(pid)
    call("setns", process, NEWNS | NEWUTS | NEWIPC | NEWPID | 0x40000000 | 0x2000000)
    os.fchdir(root)
    os.chroot(".")
    child = os.fork()
    if child == 0:
        become(command)
    wait_for(child)


def main(arguments):
    options = {}
    while arguments and arguments[0].startswith("--"):
        option = arguments.pop(0)
        if option == "--":
            break
        option, _, value = option.partition("=")
        options[option] = value or arguments.pop(0)
    command = arguments or ["/bin/sh"]
    if "--join" in options:
        join(int(options["--join"]), command)
    call("unshare", NEWNS | NEWUTS | NEWIPC | NEWPID)
    child = os.fork()
    if child == 0:
        furnish(os.path.abspath(options["--rootfs"]), options.get("--hostname", os.urandom(6).hex()))
        become(command)
    wait_for(child)


main(sys.argv[1:])
