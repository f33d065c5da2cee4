"""The cgroup that root makes its VMs' cgroups in, in each hierarchy: it goes with the farm.

Its workers are gone by then, so nobody is about to make another VM's. While VMs run on it stays, with theirs.
"""

from __future__ import annotations

import errno
from pathlib import Path

from banger.contracts.names import HostPaths

_MOUNTS = Path("/proc/self/mounts")
_FORGIVEN = (errno.ENOENT, errno.EBUSY, errno.ENOTEMPTY, errno.EROFS)


def remove_if_empty(paths: HostPaths, mounts: Path = _MOUNTS) -> None:
    """Remove it where it has no VM's cgroup in it; forgives that there is none. Needs root."""
    for line in mounts.read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind in ("cgroup", "cgroup2"):
            try:
                Path(place, paths.cgroups).rmdir()
            except OSError as error:
                if error.errno not in _FORGIVEN:
                    raise
