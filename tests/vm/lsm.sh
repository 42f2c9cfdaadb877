#!/usr/bin/env bash
# lsm.sh apparmor [ARGUMENT...]    runs the tests of chapter 9's labels, as test.sh does, where AppArmor is on and our profile loaded
# lsm.sh selinux [ARGUMENT...]     ... and where SELinux is on with Debian's policy. Enforced for containers, but for nobody else
#
# The kernel of vm.sh has both; its command line says which. The programs and the policy are Debian's packages, downloaded
# once, and never installed here: they are unpacked in the machine's memory. It needs what vm.sh needs.
set -euo pipefail
cd "$(dirname "$0")/../.."
fail() { echo "lsm: $*" >&2; exit 125; }
cache=$(realpath -m "${VM_DIR:-target/vm}")/lsm
module=${1:-}
shift || :

# packages NAME...    has them in the cache
packages() {
    mkdir -p "$cache"
    local name
    for name in "$@"; do
        compgen -G "$cache/${name}_*.deb" >/dev/null || (cd "$cache" && apt-get -q download "$name" >&2) ||
            fail "could not download $name: apt-get update"
    done
}

# unpack ROOT NAME...    puts what is in the packages where it belongs below ROOT, through links such as /sbin
unpack() {
    local root=$1 name
    shift
    for name in "$@"; do
        dpkg-deb --fsys-tarfile "$cache/${name}"_*.deb | tar -x --keep-directory-symlink -C "$root"
    done
}

# policy    makes one file of the policy's modules and of ours, once, as the package's own script does when it is installed
policy() {
    local root=$cache/policy modules name options=()
    [ ! "$root/ready" -nt tests/vm/container.cil ] || return 0
    rm -rf "$root" "$root.new"
    mkdir -p "$root.new"/{etc/selinux/default/policy,var/lib/selinux}
    unpack "$root.new" policycoreutils selinux-utils selinux-policy-default
    modules=$root.new/usr/share/selinux/default
    printf '%s\n' SELINUX=permissive SELINUXTYPE=default >"$root.new/etc/selinux/config"
    printf '%s\n' module-store=direct expand-check=0 policy-version=33 "compiler-directory=$root.new/usr/libexec/selinux/hll" \
        '[sefcontext_compile]' "path=$root.new/usr/sbin/sefcontext_compile" 'args=-r $@' '[end]' \
        '[setfiles]' path=/bin/true '[end]' >"$root.new/etc/selinux/semanage.conf"
    for name in $(cat "$modules/.modules"); do options+=(-i "$modules/$name.pp.bz2"); done
    # Those that Debian leaves out: some of them contradict each other.
    for name in amtu bugzilla cobbler condor cyphesis git ksmtuned likewise livecd nessus numad oddjob openca soundserver \
        thunderbird updfstab usernetctl; do options+=(-d "$name"); done
    "$root.new/usr/sbin/semodule" -p "$root.new" -X 100 -s default -n "${options[@]}" -X 400 -i tests/vm/container.cil >&2 ||
        fail "could not make the policy"
    touch "$root.new/ready"
    mv "$root.new" "$root"
}

case $module in
    apparmor)
        packages apparmor
        export VM_KERNEL_OPTIONS="apparmor=1 security=apparmor" VM_LACKS=-selinux
        filters=apparmor
        ;;
    selinux)
        packages policycoreutils selinux-utils selinux-policy-default
        policy
        export VM_KERNEL_OPTIONS="selinux=1 security=selinux enforcing=0" VM_LACKS=-apparmor,-apparmor-profile
        filters=selinux
        ;;
    # In the machine.
    prepare-apparmor)
        unpack / apparmor
        "$BUILT/doctor" --apparmor
        exit
        ;;
    prepare-selinux)
        cp -a "$cache/policy/etc/selinux" /etc
        "$cache/policy/sbin/load_policy" -i
        echo 1 >/sys/fs/selinux/enforce
        "$BUILT/doctor" | grep SELinux || : # that something else is missing is for the tests to say
        exit
        ;;
    *) sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
tests=cooperage:power
for filter in $filters; do tests="$tests chapters:$filter"; done
export VM_PREPARE="tests/vm/lsm.sh prepare-$module" VM_TESTS=${VM_TESTS:-$tests} VM_GRADED=' '
# The ordinary user's labs can't have the filesystems in which these modules tell of themselves: root's tests start containers as
# an ordinary user, too.
exec tests/vm/test.sh root "$@"
