#!/bin/bash
# Runs systemd's manager of a user, really, as systemd would after a login: in namespaces of its own, with a cgroup of its
# own, until stdin is closed. HOME is to be set. Prints `ready` once it runs; then nsenter(1) gets in. Needs root.
set -euo pipefail

mount --make-rprivate /
# Copies of others' mounts would keep their file systems alive.
mapfile -t others < <(awk '$3 ~ /^fuse/ { print $2 }' /proc/self/mounts)
for place in "${others[@]}"; do umount --lazy --no-canonicalize "$(printf '%b' "$place")"; done
mount -t tmpfs -o mode=755 run /run
mkdir /run/all
mount -t cgroup2 none /run/all
mine=/run/all$(sed -n 's/^0:://p' /proc/self/cgroup)/cloudfs-test-$$
mkdir "$mine"
trap 'find "$mine" -depth -type d -exec rmdir {} +' EXIT

inside='
    set -euo pipefail
    umount -R /sys/fs/cgroup 2>/dev/null || true
    mount -t cgroup2 none /sys/fs/cgroup
    umount /run/all
    mkdir -p /run/systemd/system  # by which systemd tells that the system was started by one
    mkdir -p --mode 700 "$XDG_RUNTIME_DIR"
    dbus-daemon --session --address="$DBUS_SESSION_BUS_ADDRESS" --fork --nopidfile
    mkdir -p /run/systemd/journal /run/log/journal  # in memory: /run is a file system of its own
    /lib/systemd/systemd-journald &
    # Where a manager of a user belongs, by which the journal knows whose unit it was that said something.
    of_user=/sys/fs/cgroup/user.slice/user-0.slice/user@0.service
    mkdir -p "$of_user"
    (echo "$BASHPID" >"$of_user/cgroup.procs" && exec /lib/systemd/systemd --user) &
    until systemctl --user is-system-running --wait >/dev/null 2>&1; do
        kill -0 $! || exit 1
        sleep 0.1
    done
    echo ready
    cat >/dev/null  # its end, as that of the first process in here, is the end of all others
'
export XDG_RUNTIME_DIR=/run/user/0 DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/0/bus
(
    echo "$BASHPID" >"$mine/cgroup.procs"
    exec unshare --pid --fork --kill-child --mount --mount-proc --cgroup bash -c "$inside"
)
