"""Network namespaces of the tests' own: nothing here touches the machine's network."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator

_CLONE_NEWNET = 0x40000000
libc = ctypes.CDLL(None, use_errno=True)


def check(result: int) -> None:
    """Raise OSError where a call of the C library has failed."""
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


@contextlib.contextmanager
def new_network() -> Iterator[int]:
    """Make a network namespace and yield a descriptor of it; the kernel drops it with its last user."""
    home = _current()
    try:
        check(libc.unshare(_CLONE_NEWNET))
        made = _current()
        check(libc.setns(home, _CLONE_NEWNET))
    finally:
        os.close(home)
    try:
        yield made
    finally:
        os.close(made)


@contextlib.contextmanager
def inside(namespace: int) -> Iterator[None]:
    """Put this thread, and what it starts, into a namespace, and back. A socket made inside stays there."""
    home = _current()
    check(libc.setns(namespace, _CLONE_NEWNET))
    try:
        yield
    finally:
        check(libc.setns(home, _CLONE_NEWNET))
        os.close(home)


@contextlib.contextmanager
def private_network() -> Iterator[None]:
    """Put this thread, and what it starts, into a new network namespace."""
    with new_network() as namespace, inside(namespace):
        yield


def _current() -> int:
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
