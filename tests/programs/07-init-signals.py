#!/usr/bin/env python3
# passes: 7.1 7.2 7.3 7.4
#
# Another road to chapter 7: signal handlers in place of blocked signals. Both halves sleep in waitpid(2), which the
# handlers interrupt; process 1 reaps in the SIGCHLD handler; the grace is an alarm.

import argparse
import ctypes
import os
import signal
import sys
import warnings  # noqa: F401 (os.execvp wants it, and inside it can't be found)

CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWUTS, CLONE_NEWPID, CLONE_NEWNET = (
    0x20000, 0x08000000, 0x04000000, 0x20000000, 0x40000000)
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
PR_SET_PDEATHSIG = 1
PASSED_ON = [signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH]
libc = ctypes.CDLL(None, use_errno=True)


def call(name, *arguments):
    if getattr(libc, name)(*arguments) != 0:
        sys.exit(f"python: {name}: {os.strerror(ctypes.get_errno())}")


def send(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def code(wait_status):
    if os.WIFSIGNALED(wait_status):
        return 128 + os.WTERMSIG(wait_status)
    return os.WEXITSTATUS(wait_status)


def become(command):
    for number in PASSED_ON + [signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ]:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    try:
        os.execvp(command[0], command)
    except FileNotFoundError:
        os._exit(127)
    except OSError:
        os._exit(126)


def init(command):
    # Blocked until everything is in place, so that none comes too early.
    signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON + [signal.SIGCHLD])
    child = os.fork()
    if child == 0:
        become(command)

    def reap(*_):
        while True:
            try:
                pid, wait_status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == child:
                os._exit(code(wait_status))

    signal.signal(signal.SIGCHLD, reap)
    for number in PASSED_ON:
        signal.signal(number, lambda number, _: send(child, number))
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    while True:
        signal.pause()


parser = argparse.ArgumentParser(allow_abbrev=False)
for option in ["--rootfs", "--memory", "--cpus", "--pids-limit", "--network", "--hostname"]:
    parser.add_argument(option)
parser.add_argument("--stop-timeout", type=int, default=10)
parser.add_argument("command", nargs=argparse.REMAINDER)
args = parser.parse_args()
command = args.command[1:] if args.command[:1] == ["--"] else args.command
command = command or ["/bin/sh"]

signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)
call("unshare", CLONE_NEWPID)
first = os.fork()
if first == 0:
    call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    call("unshare", CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET)
    call("mount", None, b"/", None, MS_REC | MS_PRIVATE, None)
    if args.rootfs:
        call("mount", b"proc", os.fsencode(args.rootfs) + b"/proc", b"proc", 0, None)
        call("mount", b"/dev", os.fsencode(args.rootfs) + b"/dev", None, MS_BIND | MS_REC, None)
        os.chroot(args.rootfs)
    os.chdir("/")
    os.environ.clear()
    os.environ["PATH"] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    init(command)

alarmed = False


def handle(number, _):
    global alarmed
    send(first, number)
    if number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT) and not alarmed:
        alarmed = True
        if args.stop_timeout == 0:
            send(first, signal.SIGKILL)
        signal.alarm(args.stop_timeout)


signal.signal(signal.SIGALRM, lambda *_: send(first, signal.SIGKILL))
for number in PASSED_ON:
    signal.signal(number, handle)
signal.pthread_sigmask(signal.SIG_SETMASK, [])
_, wait_status = os.waitpid(first, 0)
sys.exit(code(wait_status))
