"""The ``micro`` image: busybox and dropbear, nothing else. It is there for tests that take seconds."""

from __future__ import annotations

from pathlib import Path

from banger.images.tree import GUEST_FILE_DIRECTORIES, link, make_directories, prune, skeleton, write
from banger.shell import run

PACKAGES = ("busybox-static", "dropbear-bin")

_UNWANTED = (
    "etc/apt",
    "etc/resolv.conf",
    "usr/share/*",
    "usr/lib/*/gconv",
    "usr/lib/*/audit",
    "var/lib/*",
    "var/cache",
    "var/log",
    "tmp/*",
)
_EMPTY_DIRECTORIES = ("dev", "proc", "sys", "run", "home", "mnt", "var/log", "var/lib", "var/cache")


def finish(tree: Path) -> None:
    """Make a bootable system of unpacked packages: applets, accounts, and an init of our own."""
    prune(tree, _UNWANTED)
    make_directories(tree, (*_EMPTY_DIRECTORIES, *GUEST_FILE_DIRECTORIES))
    make_directories(tree, ("root",), 0o700)
    make_directories(tree, ("tmp",), 0o1777)
    for applet in _applets(tree):
        if not (tree / applet).exists():
            link(tree, applet, "/usr/bin/busybox")
    write(tree, "etc/passwd", "root:*:0:0:root:/root:/bin/sh\nnobody:*:65534:65534:nobody:/:/bin/false\n")
    write(tree, "etc/group", "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n")
    write(tree, "etc/shells", "/bin/sh\n")
    write(tree, "etc/fstab", "")
    write(tree, "etc/hostname", "micro\n")
    write(tree, "usr/sbin/init", skeleton("micro/init"), 0o755)


def _applets(tree: Path) -> list[str]:
    said = run((str(tree / "usr/bin/busybox"), "--list-full"), deadline_s=10).stdout.decode()
    return [name for name in said.split() if "/" in name]
