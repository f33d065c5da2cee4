#!/usr/bin/env bash
# What somebody would type who had no farm: JOBS virtual machines, PARALLEL at once, `true` in each.
#
#   by_hand.sh JOBS PARALLEL GROUND
#
# GROUND has a directory for each of those that run at once (0, 1, …): prepared disks to clone, `system.img` and
# `work.ext4`, the guest's `address`, and the command lines `qemu`, which wants the clones as descriptors 90
# and 91, and `ssh`.
set -euo pipefail
export GROUND=$3

job() {
    local slot=$GROUND/$1 here=$GROUND/$1/job-$2 address vmm tries=0
    mkdir "$here"
    cp --reflink=auto "$slot/system.img" "$slot/work.ext4" "$here"
    bash "$slot/qemu" 90<>"$here/system.img" 91<>"$here/work.ext4" </dev/null >"$here/console" 2>&1 &
    vmm=$!
    address=$(<"$slot/address")
    # A packet that is lost before the guest listens is sent again after a second: do not wait for that. Longer
    # than 0.2 s only for guests that are slow.
    until timeout "0.$((tries < 280 ? 2 + tries++ / 40 : 9))" bash -c "exec 7<>/dev/tcp/$address/22" 2>"$here/last"; do
        sleep 0.03
    done
    until bash "$slot/ssh" 2>"$here/last"; do sleep 0.03; done
    kill -KILL "$vmm"
    wait "$vmm" 2>"$here/last" || true
    rm -r "$here"
}
export -f job

# shellcheck disable=SC2016  # expanded by the inner shells
seq "$1" | xargs -P "$2" -n 1 --process-slot-var=SLOT bash -c 'job "$SLOT" "$0"'
