#!/usr/bin/env python3
# passes: 2.1 2.2 2.3 2.4
"""chapter02 in Python, with clone(2)'s road: unshare, fork, and a /proc in the host's mount namespace."""
import ctypes
import os
import signal
import sys
import warnings  # noqa: F401 (os.execvpe wants it, and inside it can't be found)

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CLONE_NEWPID = 0x20000000
MNT_DETACH = 2
libc = ctypes.CDLL(None, use_errno=True)


def must(result):
    if result != 0:
        number = ctypes.get_errno()
        print("cooperage:", os.strerror(number), file=sys.stderr)
        os._exit(125)


def names(pid):
    wanted = os.readlink(f"/proc/{pid}/ns/pid")
    for host in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
        try:
            if os.readlink(f"/proc/{host}/ns/pid") == wanted:
                with open(f"/proc/{host}/status") as status:
                    line = next(line for line in status if line.startswith("NSpid:"))
                print(host, line.split()[-1])
        except OSError:
            pass


args = sys.argv[1:]
rootfs = None
while args and args[0].startswith("--"):
    name = args.pop(0)
    if name == "--":
        break
    if name == "--rootfs":
        rootfs = args.pop(0)
    elif name == "--names":
        names(args.pop(0))
        sys.exit(0)
    else:
        sys.exit(2)
command = args or ["/bin/sh"]

must(libc.unshare(CLONE_NEWPID))
pid = os.fork()
if pid == 0:
    os.chroot(rootfs)
    os.chdir("/")
    must(libc.mount(b"proc", b"/proc", b"proc", 14, None))
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        os.execvpe(command[0], command, {"PATH": PATH, "HOME": "/root", "container": "cooperage"})
    except FileNotFoundError:
        os._exit(127)
    except OSError:
        os._exit(126)
status = os.waitpid(pid, 0)[1]
libc.umount2(os.fsencode(os.path.join(rootfs, "proc")), MNT_DETACH)
sys.exit(128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status))
