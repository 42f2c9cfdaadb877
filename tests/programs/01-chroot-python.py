#!/usr/bin/env python3
# passes: 1.1 1.2 1.3
"""chapter01 in Python, by another road: chdir first, then chroot("."); and it breaks out by fchdir(2)."""
import os
import signal
import sys
import warnings  # noqa: F401 (os.execvpe wants it, and inside it can't be found)

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def arguments(args):
    options = {"--rootfs": None, "--break-out": False}
    while args and args[0].startswith("--"):
        name = args.pop(0)
        if name == "--":
            break
        if name == "--rootfs":
            options[name] = args.pop(0)
        elif name == "--break-out":
            options[name] = True
        else:
            sys.exit(2)
    return options, args or ["/bin/sh"]


def break_out():
    # A descriptor of the jail's root, kept while the root moves further down.
    here = os.open("/", os.O_RDONLY)
    os.chroot("/bin")
    os.fchdir(here)
    for _ in range(1000):
        os.chdir("..")
    os.chroot(".")


def child(options, command):
    os.closerange(3, 4096)
    os.chdir(options["--rootfs"])
    os.chroot(".")
    if options["--break-out"]:
        break_out()
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    environment = {
        "PATH": PATH,
        "HOME": "/root",
        "TERM": os.environ.get("TERM", "dumb"),
        "container": "cooperage",
    }
    try:
        os.execvpe(command[0], command, environment)
    except FileNotFoundError:
        os._exit(127)
    except OSError:
        os._exit(126)


options, command = arguments(sys.argv[1:])
pid = os.fork()
if pid == 0:
    child(options, command)
status = os.waitpid(pid, 0)[1]
sys.exit(128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status))
