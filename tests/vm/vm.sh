#!/usr/bin/env bash
# vm.sh [COMMAND...]    runs COMMAND, or a shell, as root of a throw-away virtual machine whose only cgroups are version 2.
#
# The machine has no disk. Its root is this machine's own, shared through virtiofs and only read, below an overlay
# whose upper layer is memory. So every program of yours is there, and this directory, and all that is written is gone
# when it ends. Only the kernel is another one: it is downloaded once (52 MB) and kept in target/vm.
# The exit status is the command's; 125 if there was no machine to run it in.
#
# It needs root, x86-64, Debian or Ubuntu, and three packages: qemu-system-x86 (qemu-system-common has virtiofsd on
# Debian 12), virtiofsd where that is a package, xz-utils (zstd on Ubuntu). It uses KVM where there is any; without, programs run 10
# to 15 times slower.
#
# VM_ARCH=arm64 makes it an aarch64 machine, which no KVM helps. None of this machine's programs runs there, so its root
# is a small Debian 13 of its own, with this repository in its place: arm64.sh says what is in it. It needs qemu-system-arm
# and mmdebstrap too.
#
# VM_ARCH     amd64 or arm64                                   amd64
# VM_DIR      where the kernel is kept                         target/vm
# VM_KERNEL   the package that depends on the newest kernel    the cloud kernel, or Ubuntu's virtual one (amd64 only)
# VM_KERNEL_OPTIONS  more for the kernel's command line, such as security=selinux    none
# VM_MEM      memory in MiB                                    2048
# VM_CPUS     processors                                       2
# VM_FILES    a directory in which to unpack the tar archive that the command writes to /dev/ttyS3    none
# VM_TIMEOUT  seconds until it is ended by force               none for a shell, 3600 for a command
set -euo pipefail

fail() { echo "vm: $*" >&2; exit 125; }
repository=$(realpath "$(dirname "$0")/../..")
cache=$(realpath -m "${VM_DIR:-$repository/target/vm}")
memory=${VM_MEM:-2048}
architecture=${VM_ARCH:-amd64}
case $architecture in
    amd64) emulator=qemu-system-x86_64 package=qemu-system-x86 ;;
    arm64) emulator=qemu-system-aarch64 package=qemu-system-arm ;;
    *) fail "it can be amd64 or arm64, and not $architecture" ;;
esac

[ "$(uname -m)" = x86_64 ] || fail "this script runs on x86-64 only"
[ "$(id -u)" = 0 ] || fail "run it as root (sudo): it shows the machine's whole / to the virtual machine"
command -v "$emulator" >/dev/null || fail "QEMU is missing: apt-get install $package"
# The one in C of Debian 12, or its successor in Rust, which would make each mount of ours a mount there.
if [ -x /usr/lib/qemu/virtiofsd ]; then
    virtiofsd=(/usr/lib/qemu/virtiofsd)
elif [ -x /usr/libexec/virtiofsd ]; then
    virtiofsd=(/usr/libexec/virtiofsd --no-announce-submounts)
else
    fail "virtiofsd is missing: apt-get install qemu-system-common virtiofsd"
fi

# Once: a kernel with its modules, and a busybox without libraries for the first steps. Unpacked, not installed.
if [ "$architecture" = arm64 ]; then
    "$repository/tests/vm/arm64.sh" root || fail "there is no root for an aarch64 machine"
elif [ ! -e "$cache/ready" ]; then
    rm -rf "$cache/unpacked"
    mkdir -p "$cache/unpacked"
    cd "$cache/unpacked"
    packages=${VM_KERNEL:-linux-image-6.12-cloud-amd64 linux-image-cloud-amd64 linux-image-virtual}
    # shellcheck disable=SC2086 # several names
    image=$(apt-cache depends $packages 2>/dev/null | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
    [ -n "$image" ] || fail "apt knows none of the kernels $packages: apt-get update, or set VM_KERNEL"
    echo "vm: fetching $image, once" >&2
    apt-get -q download "$image" busybox-static >&2 || fail "could not download $image: apt-get update"
    # Ubuntu has the modules in a package of their own.
    apt-get -q download "${image/linux-image-/linux-modules-}" >&2 2>/dev/null || true
    for package in ./*.deb; do dpkg-deb -x "$package" . && rm "$package"; done
    if [ -d usr/lib/modules ]; then mkdir -p lib && mv usr/lib/modules lib/; fi
    if [ -d usr/bin ] && [ ! -e bin ]; then mv usr/bin bin; fi
    find lib/modules -name '*.ko.xz' -exec xz -d {} +
    find lib/modules -name '*.ko.zst' -exec zstd -q -d --rm {} +
    bin/busybox depmod -b "$PWD" "${image#linux-image-}"
    ln -s busybox bin/modprobe
    cd "$OLDPWD"
    touch "$cache/ready"
fi
# Where these are on this machine, and for the one inside.
if [ "$architecture" = arm64 ]; then
    root=$cache/arm64/root
    kernel=$(echo "$root"/boot/vmlinuz-*)
    modules=/lib/modules/$(ls "$root/lib/modules")
    bin=/usr/lib/vm
else
    root=/
    kernel=$(echo "$cache"/unpacked/boot/vmlinuz-*)
    modules=$(echo "$cache"/unpacked/lib/modules/*)
    bin=$cache/unpacked/bin
fi

run=$(mktemp -d "$cache/run.XXXXXX")
server='' running=''
end() {
    # shellcheck disable=SC2086 # either may be empty
    kill $running $server 2>/dev/null || :
    rm -rf "$run"
}
trap end EXIT

# What is to be run there, in the same directory and with the same environment.
interactive='' timeout=${VM_TIMEOUT:-3600}
if [ $# = 0 ]; then
    [ -t 0 ] || fail "a shell needs a terminal; give a command instead"
    interactive=yes timeout=${VM_TIMEOUT:-0}
    set -- "${SHELL:-/bin/bash}"
fi
{
    export -p
    printf 'cd %q; exec' "$PWD"
    printf ' %q' "$@"
    echo
} >"$run/command"

# The machine's first process. The four serial ports are the kernel's messages, the command's output, its status, and the
# files that it hands out.
# Directories that a process of ours has in memory (/run, /dev/shm) are new and empty there; so is /tmp, unless what is
# to be run is in it.
fresh='/run /dev/shm'
case $PWD/ in /tmp/*) ;; *) case $run/ in /tmp/*) ;; *) fresh="$fresh /tmp /var/tmp" ;; esac ;; esac
if [ "$interactive" ]; then
    size=$(stty size)
    terminal="$bin/busybox stty -F /dev/ttyS1 sane rows ${size% *} cols ${size#* }"
    start="$bin/busybox setsid -c /bin/bash $run/command </dev/ttyS1 >/dev/ttyS1 2>&1"
else
    terminal="$bin/busybox stty -F /dev/ttyS1 raw -echo"
    start="$bin/busybox setsid /bin/bash $run/command </dev/null >/dev/ttyS1 2>&1"
fi
cat >"$run/init" <<EOF
#!$bin/busybox sh
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
b=$bin/busybox

# A root that can be written to: an overlay over the shared files. It then is /, and the shared files are hidden below.
\$b mount -t proc proc /proc
\$b echo $bin/modprobe >/proc/sys/kernel/modprobe
\$b mount -t tmpfs tmpfs /run
\$b mkdir /run/upper /run/work /run/root
for m in $modules/kernel/fs/overlayfs/overlay*.ko; do \$b insmod \$m; done
\$b mount -t overlay -o lowerdir=/,upperdir=/run/upper,workdir=/run/work root /run/root
cd /run/root
\$b pivot_root . run
cd /
\$b mount -t proc proc /proc
\$b umount -l /run

# What every machine has mounted.
\$b mount -t sysfs sysfs /sys
\$b mount -t devtmpfs devtmpfs /dev
\$b mkdir -p /dev/pts /dev/shm /dev/mqueue /lib/modules
[ -d /lib/modules/\$(\$b uname -r) ] || \$b ln -sfn $modules /lib/modules/\$(\$b uname -r)
\$b mount -t devpts -o mode=620,ptmxmode=666 devpts /dev/pts
\$b mount -t mqueue mqueue /dev/mqueue
\$b mount -t securityfs securityfs /sys/kernel/security
for directory in $fresh; do \$b mount -t tmpfs -o mode=1777 tmpfs \$directory; done
\$b chmod 755 /run

# Cgroups as systemd mounts them: version 2 alone, with every controller handed on from the top.
\$b mount -t cgroup2 -o nsdelegate,memory_recursiveprot cgroup2 /sys/fs/cgroup
for controller in \$(\$b cat /sys/fs/cgroup/cgroup.controllers); do
    \$b echo +\$controller >/sys/fs/cgroup/cgroup.subtree_control
done
\$b mount --make-rshared /
\$b hostname vm
\$b ip link set lo up
for m in loop tun; do \$b modprobe \$m; done
\$b stty -F /dev/ttyS3 raw
for link in fd:/proc/self/fd stdin:/proc/self/fd/0 stdout:/proc/self/fd/1 stderr:/proc/self/fd/2; do
    \$b ln -sn \${link#*:} /dev/\${link%%:*} 2>/dev/null
done

$terminal
$start
\$b echo \$? >/dev/ttyS2
\$b stty -F /dev/ttyS1 raw
\$b echo b >/proc/sysrq-trigger
\$b sleep 99
EOF
chmod +x "$run/init"

share=("${virtiofsd[@]}" --socket-path="$run/share" -o "source=$root" -o cache=always -o sandbox=chroot)
if [ "$root" = / ]; then
    "${share[@]}" >"$run/share.log" 2>&1 &
else
    # The repository, and this directory, under the names that they have here. Only that process sees these mounts.
    # shellcheck disable=SC2016 # for the inner shell
    unshare --mount --propagation private bash -euc '
        root=$1 repository=$2 cache=$3
        shift 3
        for directory in "$repository" "$cache"; do
            mkdir -p "$root$directory"
            mount --bind "$directory" "$root$directory"
        done
        exec "$@"' bash "$root" "$repository" "$cache" "${share[@]}" >"$run/share.log" 2>&1 &
fi
server=$!
for _ in $(seq 200); do [ -S "$run/share" ] && break; sleep 0.05; done
[ -S "$run/share" ] || fail "virtiofsd did not start: $(cat "$run/share.log")"

# The machine and its processor.
if [ "$architecture" = arm64 ]; then
    # The four ports are on one card: then they have the names that they have on a PC.
    machine=(-accel "tcg,thread=multi" -cpu neoverse-n1 -M "virt,gic-version=3,memory-backend=memory"
        -device "pci-serial-4x,chardev1=log,chardev2=terminal,chardev3=status,chardev4=files")
else
    # Several processors on several threads of ours: with QEMU before 8.1 that crashed the kernel inside now and then.
    threads=multi
    version=$("$emulator" --version | sed -n 's/.*version \([0-9]*\.[0-9]*\).*/\1/p')
    [ "$(printf '%s\n8.1\n' "$version" | sort -V | head -n 1)" = 8.1 ] || threads=single
    accelerator=(-accel "tcg,thread=$threads" -cpu max)
    # Not every /dev/kvm works: the processor has to be able to.
    if grep -qwE 'vmx|svm' /proc/cpuinfo && [ -w /dev/kvm ]; then accelerator=(-accel kvm -cpu host); fi
    machine=("${accelerator[@]}" -M "q35,memory-backend=memory"
        -serial chardev:log -serial chardev:terminal -serial chardev:status -serial chardev:files)
fi

qemu=(timeout --foreground -k 5 "$timeout" "$emulator" -nodefaults -display none -no-reboot
    -m "$memory" -smp "${VM_CPUS:-2}" -object "memory-backend-memfd,id=memory,size=${memory}M,share=on"
    -chardev "socket,id=share,path=$run/share" -device "vhost-user-fs-pci,chardev=share,tag=host"
    -chardev "stdio,id=terminal,signal=off" -chardev "file,id=log,path=$run/kernel.log"
    -chardev "file,id=status,path=$run/status" -chardev "file,id=files,path=$run/files" "${machine[@]}"
    -kernel "$kernel"
    -append "console=ttyS0 panic=-1 nowatchdog mitigations=off root=host rootfstype=virtiofs ro init=$run/init cooperage.throw_away ${VM_KERNEL_OPTIONS:-}")
if [ "$interactive" ]; then
    "${qemu[@]}" || :
else
    "${qemu[@]}" </dev/null &
    running=$!
    wait $running || :
fi
status=$(tr -dc 0-9 <"$run/status" 2>/dev/null || :)
if [ -z "$status" ]; then
    tail -n 25 "$run/kernel.log" >&2 || :
    fail "it ended without a status"
fi
if [ -n "${VM_FILES:-}" ] && [ -s "$run/files" ]; then tar -x -C "$VM_FILES" -f "$run/files"; fi
exit "$status"
