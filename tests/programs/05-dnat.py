#!/usr/bin/env python3
# passes: 5.1 5.2 5.3 5.4
# needs: ip nft
"""Chapter 5 in Python, around unshare(1), ip(8) and nft(8): a published port is a rule in the kernel (dnat)."""
import fcntl, os, subprocess, sys

BRIDGE, NET = "pybridge0", "172.28.9"


def run(*words):
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def succeeds(*words):
    return subprocess.run(words, capture_output=True, stdin=subprocess.DEVNULL).returncode == 0


def setting(name, value):
    with open(f"/proc/sys/net/ipv4/{name}", "w") as file:
        file.write(value)


options, publish, arguments = {"--network": "bridge"}, [], sys.argv[1:]
while arguments and arguments[0].startswith("--"):
    option = arguments.pop(0)
    if option == "--":
        break
    value = arguments.pop(0)
    if option == "--publish":
        publish.append(value.split(":"))
    else:
        options[option] = value
command = arguments or ["/bin/sh"]

ready_read, ready_write = os.pipe()
go_read, go_write = os.pipe()
script = """
    mount --make-rprivate /
    mount -t tmpfs tmpfs /mnt
    mkdir /mnt/upper /mnt/work /mnt/root
    mount -t overlay -o lowerdir="$rootfs",upperdir=/mnt/upper,workdir=/mnt/work overlay /mnt/root
    mount -t proc proc /mnt/root/proc
    cd /mnt/root
    echo >&$ready
    read line <&$go
    eval "exec $ready>&- $go<&-"
    exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin TERM=dumb HOME=/root chroot . "$@"
"""
unshare = ["unshare", "--mount", "--uts", "--ipc", "--pid", "--net", "--fork", "--kill-child"]
environment = {**os.environ, "rootfs": options["--rootfs"], "ready": str(ready_write), "go": str(go_read)}
runtime = subprocess.Popen(
    [*unshare, "bash", "-euc", script, "sh", *command], env=environment, pass_fds=(ready_write, go_read)
)
os.close(ready_write)
os.read(ready_read, 1)
with open(f"/proc/{runtime.pid}/task/{runtime.pid}/children") as file:
    inner = file.read().split()[0]
inside = ["nsenter", "--target", inner, "--net", "--"]
run(*inside, "ip", "link", "set", "lo", "up")

table = f"py{os.getpid()}"
if options["--network"] == "bridge":
    os.makedirs("/run/dnat-py", exist_ok=True)
    with open("/run/dnat-py/lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if succeeds("ip", "link", "add", BRIDGE, "type", "bridge"):
            run("ip", "addr", "add", f"{NET}.1/24", "dev", BRIDGE)
            run("ip", "link", "set", BRIDGE, "up")
        number = 2
        claims = []
        while not claims:  # a lock on a file means: taken
            claim = open(f"/run/dnat-py/{number}", "w")
            try:
                fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
                claims.append(claim)
            except BlockingIOError:
                number += 1
    address = f"{NET}.{number}"
    cable = f"py{os.getpid()}"
    run("ip", "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", inner)
    run("ip", "link", "set", cable, "master", BRIDGE, "up")
    run(*inside, "ip", "addr", "add", f"{address}/24", "dev", "eth0")
    run(*inside, "ip", "link", "set", "eth0", "up")
    if publish:
        setting(f"conf/{BRIDGE}/route_localnet", "1")
        rules = "\n".join(f"add rule ip {table} out ip daddr 127.0.0.1 tcp dport {host} dnat to {address}:{port}"
                          for host, port in publish)
        nft = f"""
            add table ip {table}
            add chain ip {table} out {{ type nat hook output priority -100; }}
            add chain ip {table} post {{ type nat hook postrouting priority 100; }}
            add rule ip {table} post oifname {BRIDGE} ip saddr 127.0.0.0/8 masquerade
            {rules}"""
        subprocess.run(["nft", "-f", "-"], input=nft, text=True, check=True)

os.write(go_write, b"\n")
status = runtime.wait()
if publish:
    run("nft", "delete", "table", "ip", table)
sys.exit(status if status >= 0 else 128 - status)
