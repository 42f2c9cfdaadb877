#!/usr/bin/env python3
# passes: 10.1 10.2 10.3 10.4
#
# Chapter 10 in Python. The gate is a socket, as the chapter's own, and what is noted is a file of JSON. A hook is run in a
# session of its own, which subprocess knows how to make; its children are ended as a group.

import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

libc = ctypes.CDLL(None, use_errno=True)
BIND, PRIVATE, DETACH = 0x5000, 0x44000, 2
NEW_PROCESSES, NEW = 0x20000000, 0x20000 | 0x4000000 | 0x8000000
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}[os.uname().machine]


def call(result):
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def mount(source, target, kind=None, how=0, data=None):
    text = [part and part.encode() for part in (source, target, kind)]
    call(libc.mount(*text, ctypes.c_ulong(how), data and data.encode()))


def look(pid):
    """The state and the time of birth; None if there is no such process."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return fields[0], int(fields[19])


class Container:
    def __init__(self, root, name):
        self.name, self.place = name, os.path.join(root, name)

    def read(self):
        with open(self.place + "/noted.json") as file:
            return json.load(file)

    def write(self, noted):
        with open(self.place + "/new", "w") as file:
            json.dump(noted, file)
        os.rename(self.place + "/new", self.place + "/noted.json")

    def lives(self, noted):
        now = look(noted["pid"])
        return now is not None and now[0] not in "ZX" and now[1] == noted["born"]

    def create(self, bundle, pid_file):
        bundle = os.path.realpath(bundle)
        with open(bundle + "/config.json") as file:
            config = json.load(file)
        os.makedirs(os.path.dirname(self.place), exist_ok=True)
        os.mkdir(self.place, 0o700)
        first = None
        try:
            gate = socket.socket(socket.AF_UNIX)
            here = os.open(self.place, os.O_PATH)
            gate.bind(f"/proc/self/fd/{here}/gate")
            gate.listen(1)
            ours, theirs = socket.socketpair()
            # Of processes it is the next child that is in it. The rest is the child's: who exchanges the root does so for
            # all that are in its mount namespace.
            with open("/proc/self/ns/pid") as own:
                call(libc.unshare(NEW_PROCESSES))
                first = os.fork()
                # Hooks are children, too, and not to be in there.
                if first != 0:
                    call(libc.setns(own.fileno(), NEW_PROCESSES))
            if first == 0:
                ours.close()
                self.live(config, bundle, gate, theirs)
            theirs.close()
            if ours.recv(1) != b"1":
                raise RuntimeError("the container could not be made")
            noted = {"pid": first, "born": look(first)[1], "bundle": bundle, "started": False}
            noted["version"] = config["ociVersion"]
            noted["annotations"] = config.get("annotations", {})
            self.write(noted)
            for hook in config.get("hooks", {}).get("createRuntime", []):
                run_hook(hook, json.dumps(self.described(noted, "creating")))
            ours.sendall(b"2")
            if ours.recv(1) != b"3":
                raise RuntimeError("the container could not be made")
            if pid_file:
                with open(pid_file, "w") as file:
                    file.write(str(first))
        except BaseException:
            if first:
                os.kill(first, signal.SIGKILL)
                os.waitpid(first, 0)
            shutil.rmtree(self.place)
            raise

    def live(self, config, bundle, gate, theirs):
        try:
            os.setsid()
            call(libc.unshare(NEW))
            rootfs = os.path.join(bundle, config["root"]["path"])
            mount(None, "/", None, PRIVATE)
            mount(rootfs, rootfs, None, BIND)
            mount("proc", rootfs + "/proc", "proc")
            theirs.sendall(b"1")
            if theirs.recv(1) != b"2":
                os._exit(1)
            os.chdir(rootfs)
            call(libc.syscall(PIVOT_ROOT, b".", b"."))
            call(libc.umount2(b".", DETACH))
            os.chdir("/")
            cwd = config["process"]["cwd"]
            if not cwd.startswith("/"):
                raise ValueError("cwd does not begin with /")
            os.makedirs(cwd, exist_ok=True)
            os.chdir(cwd)
            if not os.getcwd().startswith("/"):
                raise ValueError("cwd is outside")
            theirs.sendall(b"3")
            theirs.close()
            gate.accept()
            gate.close()
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            args = config["process"]["args"]
            os.closerange(3, 256)
            os.execve(args[0], args, dict(text.split("=", 1) for text in config["process"]["env"]))
        except BaseException as error:
            print(repr(error), file=sys.stderr)
        os._exit(1)

    def start(self):
        noted = self.read()
        here = os.open(self.place, os.O_PATH)
        with socket.socket(socket.AF_UNIX) as knocking:
            knocking.connect(f"/proc/self/fd/{here}/gate")
        os.unlink(self.place + "/gate")
        self.write({**noted, "started": True})

    def described(self, noted, status):
        state = {"ociVersion": noted["version"], "id": self.name, "status": status, "bundle": noted["bundle"]}
        state["annotations"] = noted["annotations"]
        return state if status == "stopped" else {**state, "pid": noted["pid"]}

    def state(self):
        noted = self.read()
        status = "stopped"
        if self.lives(noted):
            status = "running" if noted["started"] else "created"
        print(json.dumps(self.described(noted, status), indent=2))

    def kill(self, name):
        number = int(name) if name.isdigit() else signal.Signals["SIG" + name.upper().removeprefix("SIG")]
        noted = self.read()
        process = os.pidfd_open(noted["pid"])
        if not self.lives(noted):
            raise ProcessLookupError("container not running")
        signal.pidfd_send_signal(process, number)

    def delete(self, force):
        noted = self.read()
        if self.lives(noted):
            if not force:
                raise RuntimeError("it is not stopped")
            self.kill("KILL")
            while self.lives(noted):
                time.sleep(0.01)
        shutil.rmtree(self.place)


def run_hook(hook, state):
    environment = dict(text.split("=", 1) for text in hook.get("env", []))
    args = hook.get("args") or [hook["path"]]
    with tempfile.TemporaryFile() as stdin:
        stdin.write(state.encode())
        stdin.seek(0)
        child = subprocess.Popen(
            args,
            executable=hook["path"],
            env=environment,
            stdin=stdin,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
    try:
        status = child.wait(hook.get("timeout"))
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        raise
    if status != 0:
        raise RuntimeError(f"a hook ended with {status}")


def main(words):
    options = {"--root": "/run/oci-python", "--bundle": ".", "--pid-file": None, "--force": False}
    rest = []
    while words:
        word = words.pop(0)
        if word == "--force":
            options[word] = True
        elif word in options:
            options[word] = words.pop(0)
        else:
            rest.append(word)
    verb, name = rest[0], rest[1]
    container = Container(options["--root"], name)
    if verb == "create":
        container.create(options["--bundle"], options["--pid-file"])
    elif verb == "kill":
        container.kill(rest[2] if len(rest) > 2 else "TERM")
    elif verb == "delete":
        container.delete(options["--force"])
    else:
        {"start": container.start, "state": container.state}[verb]()


try:
    main(sys.argv[1:])
except Exception as error:
    print(f"cooperage: {error!r}", file=sys.stderr)
    sys.exit(125)
