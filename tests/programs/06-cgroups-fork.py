#!/usr/bin/env python3
# passes: 6.1 6.2 6.3 6.4
#
# Another road to chapter 6: the parent puts the child into the cgroup, while the child waits at a pipe, so that it
# is in before its first instruction as well. Out of memory is told by the counter before and after. Processor time is taken from wait4(2) instead of a file.

import argparse
import ctypes
import os
import signal
import sys
import warnings  # noqa: F401 (os.execvp wants it, and inside it can't be found)

CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWUTS, CLONE_NEWPID, CLONE_NEWNET = (
    0x20000, 0x08000000, 0x04000000, 0x20000000, 0x40000000)
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
libc = ctypes.CDLL(None, use_errno=True)


def call(name, *arguments):
    if getattr(libc, name)(*arguments) != 0:
        sys.exit(f"python: {name}: {os.strerror(ctypes.get_errno())}")


def write(directory, file, value):
    with open(os.path.join(directory, file), "w") as opened:
        opened.write(str(value))


def read(directory, file, key=None):
    with open(os.path.join(directory, file)) as opened:
        text = opened.read()
    if key is None:
        return int(text)
    return int(next(line.split()[1] for line in text.splitlines() if line.split()[0] == key))


parser = argparse.ArgumentParser(allow_abbrev=False)
for option in ["--rootfs", "--memory", "--cpus", "--pids-limit", "--stats", "--network", "--hostname"]:
    parser.add_argument(option)
parser.add_argument("command", nargs=argparse.REMAINDER)
args = parser.parse_args()
command = args.command[1:] if args.command[:1] == ["--"] else args.command
command = command or ["/bin/sh"]

TOP = "/sys/fs/cgroup"
name = f"python-{os.getpid()}"
version = 2 if os.path.exists(f"{TOP}/cgroup.controllers") else 1
if version == 2:
    write(TOP, "cgroup.subtree_control", "+memory +cpu +pids")
    memory = cpu = pids = f"{TOP}/{name}"
else:
    memory, cpu, pids = (f"{TOP}/{controller}/{name}" for controller in ["memory", "cpu", "pids"])
directories = sorted({memory, cpu, pids})
for directory in directories:
    os.mkdir(directory)

status = 125
try:
    if args.memory is not None:
        unit = args.memory[-1:].lower()
        number = args.memory[:-1] if unit in "bkmg" else args.memory
        size = int(number) << {"k": 10, "m": 20, "g": 30}.get(unit, 0)
        write(memory, "memory.limit_in_bytes" if version == 1 else "memory.max", size)
    if args.cpus is not None:
        period = 20000
        quota = round(float(args.cpus) * period)
        if version == 1:
            write(cpu, "cpu.cfs_period_us", period)
            write(cpu, "cpu.cfs_quota_us", quota)
        else:
            write(cpu, "cpu.max", f"{quota} {period}")
    if args.pids_limit is not None:
        write(pids, "pids.max", args.pids_limit)

    kills = lambda: read(memory, "memory.oom_control" if version == 1 else "memory.events", "oom_kill")
    kills_before = kills()
    ready_read, ready_write = os.pipe()
    # The next child is process 1 of a new PID namespace.
    call("unshare", CLONE_NEWPID)
    child = os.fork()
    if child == 0:
        os.close(ready_write)
        os.read(ready_read, 1)
        call("unshare", CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET)
        call("mount", None, b"/", None, MS_REC | MS_PRIVATE, None)
        if args.rootfs:
            call("mount", b"proc", os.fsencode(args.rootfs) + b"/proc", b"proc", 0, None)
            call("mount", b"/dev", os.fsencode(args.rootfs) + b"/dev", None, MS_BIND | MS_REC, None)
            os.chroot(args.rootfs)
        os.chdir("/")
        os.environ.clear()
        os.environ["PATH"] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        try:
            os.execvp(command[0], command)
        except FileNotFoundError:
            os._exit(127)
        except OSError:
            os._exit(126)
    os.close(ready_read)
    for directory in directories:
        write(directory, "cgroup.procs", child)
    os.write(ready_write, b"!")
    _, wait_status, usage = os.wait4(child, 0)
    if os.WIFSIGNALED(wait_status):
        status = 128 + os.WTERMSIG(wait_status)
    else:
        status = os.WEXITSTATUS(wait_status)
    if status == 137 and kills() > kills_before:
        print("python: the container ran out of memory (OOM)", file=sys.stderr)
    if args.stats:
        peak = read(memory, "memory.max_usage_in_bytes" if version == 1 else "memory.peak")
        used = round((usage.ru_utime + usage.ru_stime) * 1e6)
        throttled = read(cpu, "cpu.stat", "nr_throttled")
        with open(args.stats, "w") as file:
            file.write(f"nr_throttled {throttled}\ncpu_usec {used}\npeak_memory {peak}\n")
finally:
    for directory in directories:
        try:
            os.rmdir(directory)
        except OSError:
            pass
sys.exit(status)
