"""What a farm can leave on the lab's host, as lines that can be compared before and after."""

from __future__ import annotations

from lab.machine import Machine

Traces = frozenset[str]

# Names alone, but for /etc, where contents count: what has our name, and what would have been changed by us.
# Backups of the user database (passwd-) differ by their age; what the owner has at home stays, as documented.
_LOOK = r"""
set +e  # some end with 1 where they find nothing
find /etc /run /usr/local /var -xdev \( -path /run/udev -o -path /var/log/journal \) -prune \
    -o \( -name '*banger*' -o -name 'bgr*' \) -printf 'path %p\n'
find /etc -xdev -type f -not -name '*-' -not -name '.pwd.lock' -exec sha256sum {} + | sed 's/^/file /'
find /etc -xdev -not -type f -printf 'entry %p %l %m %u\n'
find /sys/fs/cgroup -name '*banger*' -printf 'cgroup %p\n'
ip -o link | sed 's/^[0-9]*: \([^:@]*\).*/link \1/'
nft list tables
losetup --list --noheadings --output NAME,BACK-FILE | sed 's/^/loop /'
dmsetup ls | sed 's/^/dm /'
getent passwd | sed 's/^/user /'
getent group | sed 's/^/group /'
systemctl list-units --all --plain --no-legend 'banger*' | sed 's/ .*//; s/^/unit /'
systemctl list-unit-files --no-legend 'banger*' | sed 's/^/unit file /'
findmnt --noheadings --list --output TARGET | sed 's/^/mount /'
ps -eo uid=,comm= | awk '$1 >= 300000 || $2 ~ /banger|redis|celery/ {print "process", $0}'
sysctl net.ipv4.ip_forward
"""


def traces_of(machine: Machine) -> Traces:
    """Return what is there now."""
    return frozenset(line.strip() for line in machine.run(_LOOK, deadline_s=120).splitlines())
