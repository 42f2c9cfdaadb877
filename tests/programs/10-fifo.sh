#!/bin/sh
# passes: 10.1 10.2 10.3 10.4
# needs: jq unshare pivot_root timeout setsid
#
# Chapter 10 as a shell script. The gate is a FIFO that the container's shell holds open at both ends, and reads a line from. What
# is noted are files. timeout(1) makes a process group for what it runs, and ends it as a whole.
set -eu

root=/run/oci-shell bundle=. pid_file='' force='' verb='' id='' signal=TERM
while [ $# -gt 0 ]; do
    case $1 in
        --root) root=$2; shift ;;
        --bundle) bundle=$2; shift ;;
        --pid-file) pid_file=$2; shift ;;
        --force) force=yes ;;
        *) if [ -z "$verb" ]; then verb=$1; elif [ -z "$id" ]; then id=$1; else signal=$1; fi ;;
    esac
    shift
done
place=$root/$id

fail() {
    echo "cooperage: $1" >&2
    exit 125
}

# Sets state and born to what the kernel says of a process. The longest match ends at the last bracket.
look() {
    line=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
    # shellcheck disable=SC2086
    set -- ${line##*) }
    state=$1
    shift 19
    born=$1
}

lives() {
    look "$(cat "$place/pid")" && [ "$state" != Z ] && [ "$state" != X ] && [ "$born" = "$(cat "$place/born")" ]
}

described() {
    jq --arg id "$id" --arg status "$1" --arg bundle "$(cat "$place/bundle")" --argjson pid "$2" \
        '{ociVersion, id: $id, status: $status, bundle: $bundle, pid: $pid, annotations}' "$place/config.json"
}

undo() {
    if [ -s "$place/pid" ]; then kill -KILL "$(cat "$place/pid")" 2>/dev/null || :; fi
    rm -rf "$place"
    fail "$1"
}

run_hook() {
    limit=$1
    shift
    timeout -s KILL "$limit" "$@" <"$place/state" >/dev/null || undo "a hook failed"
}

create() {
    mkdir -p "$root"
    mkdir -m 700 "$place" 2>/dev/null || fail "there is one called $id"
    bundle=$(realpath "$bundle")
    cp "$bundle/config.json" "$place/config.json" || undo "no config.json"
    echo "$bundle" >"$place/bundle"
    mkfifo -m 600 "$place/gate" "$place/ready"
    rootfs=$bundle/$(jq -r .root.path "$place/config.json")
    cwd=$(jq -r .process.cwd "$place/config.json")
    run=$(jq -r '"exec env -i \([.process.env[]? | @sh] | join(" ")) \([.process.args[] | @sh] | join(" "))"' "$place/config.json")
    # Without --fork: the shell stays outside, and its first child is process 1.
    setsid unshare --mount --pid --uts --ipc --propagation private -- sh -c '
        (
            exec 8<>"$2/gate" 9>"$2/ready"
            set -eu
            mount --rbind "$1" "$1"
            mount -t proc proc "$1/proc"
            echo made >&9
            read go <&8
            cd "$1"
            pivot_root . .
            umount -l .
            cd /
            case $3 in /*) ;; *) exit 1 ;; esac
            mkdir -p "$3"
            cd "$3"
            [ "$(readlink /proc/self/cwd)" -ef . ]
            echo in >&9
            exec 9>&-
            read go <&8
            exec 8<&-
            eval "$4"
        ) &
        echo $! >"$2/pid"
    ' sh "$rootfs" "$place" "$cwd" "$run" || undo "no container"
    # When the process ends, this ends.
    exec 7<"$place/ready"
    read -r said <&7 || said=nothing
    [ "$said" = made ] && look "$(cat "$place/pid")" || undo "the container could not be made"
    echo "$born" >"$place/born"
    described creating "$(cat "$place/pid")" >"$place/state"
    jq -r '.hooks.createRuntime[]? | "run_hook \(.timeout // 0) env -i \([.env[]? | @sh] | join(" ")) \(.path | @sh) \([.args[1:][]? | @sh] | join(" "))"' \
        "$place/config.json" >"$place/hooks"
    . "$place/hooks"
    echo go >"$place/gate"
    read -r said <&7 || said=nothing
    [ "$said" = in ] || undo "the container could not be made"
    [ -z "$pid_file" ] || cp "$place/pid" "$pid_file"
}

start() {
    # Nobody reads there but the process that waits: else a line would stay in it until somebody does.
    { [ ! -e "$place/started" ] && lives; } || fail "it does not wait"
    echo go >"$place/gate"
    : >"$place/started"
}

state() {
    if ! lives; then
        described stopped 0
    elif [ -e "$place/started" ]; then
        described running "$(cat "$place/pid")"
    else
        described created "$(cat "$place/pid")"
    fi
}

delete() {
    if lives; then
        [ "$force" ] || fail "it is not stopped"
        kill -KILL "$(cat "$place/pid")"
        while lives; do sleep 0.01; done
    fi
    rm -rf "$place"
}

[ "$verb" = create ] || [ -d "$place" ] || fail "there is none called $id"
case $verb in
    create | start | state | delete) "$verb" ;;
    kill)
        # Between the two somebody else may get the number: a shell has no pidfd.
        lives || fail "container not running"
        kill -s "${signal#SIG}" "$(cat "$place/pid")"
        ;;
    *) fail "no such command" ;;
esac
