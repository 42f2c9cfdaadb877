#!/usr/bin/env python3
# passes: 3.1 3.2 3.3 3.4
"""chapter03 in Python, by another road: every mount made a slave, the new root moved over the old (MS_MOVE) and
chroot(2), as a RAM disk does it at boot. It lets go of the host's other mounts first."""
import ctypes
import os
import signal
import stat
import sys
import warnings  # noqa: F401 (os.execvpe wants it, and inside it can't be found)

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NEWNS, NEWPID = 0x20000, 0x20000000
RDONLY, REMOUNT, BIND, MOVE, REC, SLAVE = 1, 32, 4096, 8192, 16384, 1 << 19
DETACH = 2
libc = ctypes.CDLL(None, use_errno=True)


def must(what, result):
    if result != 0:
        number = ctypes.get_errno()
        print(f"cooperage: could not {what}: {os.strerror(number)}", file=sys.stderr)
        os._exit(125)


def mount(source, target, kind, flags, data=None):
    encode = lambda text: None if text is None else os.fsencode(text)
    result = libc.mount(encode(source), encode(target), encode(kind), flags, encode(data))
    must(f"mount {target}", result)


def points():
    with open("/proc/self/mountinfo") as lines:
        return [line.split()[4].encode().decode("unicode_escape") for line in lines]


def diff(lower, upper):
    lines = {}

    def opaque(path):
        for name in ("trusted.overlay.opaque", "user.overlay.opaque"):
            try:
                if os.getxattr(path, name, follow_symlinks=False) == b"y":
                    return True
            except OSError:
                pass
        return False

    def visit(path, hidden):
        hidden = hidden or opaque(upper + path)
        names = os.listdir(upper + path)
        for name in names:
            below = f"{path}/{name}"
            found = os.lstat(upper + below)
            if stat.S_ISCHR(found.st_mode) and found.st_rdev == 0:
                lines[below] = "D"
                continue
            lines[below] = "C" if os.path.lexists(lower + below) else "A"
            if stat.S_ISDIR(found.st_mode):
                visit(below, hidden)
        if hidden and os.path.isdir(lower + path):
            for name in set(os.listdir(lower + path)) - set(names):
                lines[f"{path}/{name}"] = "D"

    visit("", False)
    for path in sorted(lines):
        print(lines[path], path)


args = sys.argv[1:]
rootfs, volumes, layer = None, [], None
while args and args[0].startswith("-"):
    name = args.pop(0)
    if name == "--":
        break
    if name == "--rootfs":
        rootfs = args.pop(0)
    elif name in ("-v", "--volume"):
        volumes.append(args.pop(0))
    elif name == "--diff":
        layer = args.pop(0)
    else:
        sys.exit(2)
if layer is not None:
    diff(rootfs.rstrip("/"), layer.rstrip("/"))
    sys.exit(0)
command = args or ["/bin/sh"]

must("make namespaces", libc.unshare(NEWNS | NEWPID))
pid = os.fork()
if pid == 0:
    mount(None, "/", None, REC | SLAVE)
    work = "/run/python03"
    os.makedirs(work, exist_ok=True)
    mount("python03", work, "tmpfs", 0, "mode=755")
    for name in ("upper", "work", "root"):
        os.mkdir(f"{work}/{name}")
    new = f"{work}/root"
    mount("overlay", new, "overlay", 0, f"lowerdir={rootfs},upperdir={work}/upper,workdir={work}/work")
    for name in ("proc", "tmp", "dev"):
        os.makedirs(f"{new}/{name}", exist_ok=True)
    mount("proc", f"{new}/proc", "proc", 14)
    mount("tmpfs", f"{new}/dev", "tmpfs", 0)
    open(f"{new}/dev/null", "w").close()
    mount("/dev/null", f"{new}/dev/null", None, BIND)
    for volume in volumes:
        read_only = volume.endswith(":ro")
        source, target = volume.removesuffix(":ro").split(":")
        target = new + target
        os.makedirs(target, exist_ok=True)
        mount(source, target, None, BIND | REC)
        for point in points() if read_only else []:
            if point == target or point.startswith(target + "/"):
                mount(None, point, None, BIND | REMOUNT | RDONLY)
    os.chdir(new)
    for point in reversed(points()):
        if point != "/" and not new.startswith(point) and not point.startswith(new):
            libc.umount2(os.fsencode(point), DETACH)
    mount(".", "/", None, MOVE)
    os.chroot(".")
    os.chdir("/")
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        os.execvpe(command[0], command, {"PATH": PATH, "HOME": "/root", "container": "cooperage"})
    except FileNotFoundError:
        os._exit(127)
    except OSError:
        os._exit(126)
status = os.waitpid(pid, 0)[1]
sys.exit(128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status))
