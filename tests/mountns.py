"""Mount namespaces of the tests' own: nothing here touches the machine's mounts."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from netns import check, libc

_CLONE_NEWNS = 0x00020000
_MS_REC, _MS_SLAVE = 0x4000, 0x80000


@contextlib.contextmanager
def private_mounts() -> Iterator[None]:
    """Put this thread, and what it starts, into a mount namespace, as ``unshare --mount`` does, and back."""
    home, here = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC), Path.cwd()
    try:
        check(libc.unshare(_CLONE_NEWNS))
        try:
            check(libc.mount(b"none", b"/", None, _MS_REC | _MS_SLAVE, None))
            yield
        finally:
            check(libc.setns(home, _CLONE_NEWNS))
            os.chdir(here)
    finally:
        os.close(home)
