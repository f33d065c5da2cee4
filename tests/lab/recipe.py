"""What the lab's host is made of: Debian's packages, and what makes a machine of them."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
SUITE = "bookworm"  # Debian 12: the oldest that we promise to run on
KERNEL = "linux-image-amd64"
HOST_NAME = "lab"
OWNER = "anna"  # who may use the farm without sudo, in our documents and here
CPUS = 3  # the first is the kernel's alone: see lab.debian

# What makes a machine that can be reached and looked at; what the farm needs, the installation says.
MACHINE = ("systemd-sysv", "systemd-resolved", "udev", "kmod", "dbus", "openssh-server", "procps", "sudo")
# What the documents offer beside it: names for guests, another backend for disks.
OFFERED = ("dnsmasq-base", "xfsprogs", "python3", "less")

# dpkg never unpacks these: nobody reads them here.
WITHOUT = ("/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*", "/usr/share/doc/*")

# Drivers of hardware that a virtual machine lacks: most of the kernel's package.
WITHOUT_MODULES = (
    "sound",
    *(
        f"drivers/{name}"
        for name in (
            *(
                "accel",
                "ata",
                "bluetooth",
                "gpu",
                "hid",
                "hwmon",
                "iio",
                "infiniband",
                "input",
                "isdn",
                "leds",
            ),
            *(
                "media",
                "message",
                "mfd",
                "mmc",
                "mtd",
                "mux",
                "nfc",
                "parport",
                "pcmcia",
                "platform",
                "power",
            ),
            *(
                "regulator",
                "scsi",
                "soundwire",
                "spi",
                "ssb",
                "staging",
                "target",
                "thunderbolt",
                "usb",
                "video",
            ),
            *("net/ethernet", "net/wireless", "net/usb", "net/can", "net/phy", "net/fddi", "net/hamradio"),
        )
    ),
)

_APT_LINE = re.compile(r"^    apt-get install ((?:.*\\\n)*.*)$", re.MULTILINE)


def installed_packages() -> tuple[str, ...]:
    """Return the packages that docs/install.md tells an administrator to install."""
    found = _APT_LINE.search((ROOT / "docs/install.md").read_text())
    assert found, "docs/install.md has no line `apt-get install …`"
    return tuple(found[1].replace("\\\n", " ").split())


def packages() -> tuple[str, ...]:
    """Return all packages of the host, but for its kernel's."""
    return tuple(dict.fromkeys((*MACHINE, *installed_packages(), *OFFERED)))


def debian_digest() -> str:
    """Return a digest of what the Debian beneath is made from: packages, and the code that lays them out."""
    parts = ("\n".join(packages()).encode(), KERNEL.encode(), *_code("recipe.py", "debian.py"))
    return _digest(*parts, *_images_code("apt.py", "initrd.py", "tree.py"))


def host_digest() -> str:
    """Return a digest of what the host's disk is made from: that Debian, and the locked dependencies."""
    lock = (ROOT / "requirements.lock").read_bytes()
    return _digest(debian_digest().encode(), lock, *_code("host_disk.py"), *_images_code("ext4.py"))


def _code(*names: str) -> tuple[bytes, ...]:
    """Return source files: a changed comment costs a build, a change that went unseen would cost a day."""
    return tuple(Path(__file__).with_name(name).read_bytes() for name in names)


def _images_code(*names: str) -> tuple[bytes, ...]:
    """Return source files of banger's own that lay the host out, as they do images."""
    return tuple((ROOT / "banger/images" / name).read_bytes() for name in names)


def _digest(*parts: bytes) -> str:
    whole = hashlib.sha256()
    for part in parts:
        whole.update(hashlib.sha256(part).digest())
    return whole.hexdigest()[:12]
