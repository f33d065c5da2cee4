"""The ``debian`` image: a small Debian with systemd and OpenSSH, tuned to start fast in a microVM."""

from __future__ import annotations

from pathlib import Path

from banger.images.tree import GUEST_FILE_DIRECTORIES, link, make_directories, prune, skeleton, write

PACKAGES = ("systemd", "systemd-sysv", "udev", "openssh-server", "iproute2", "ca-certificates")

# dpkg never unpacks these; copyright files stay, as their licences ask.
WITHOUT = ("/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*", "/usr/share/doc/*/[!c]*")

_UNWANTED = (
    "etc/ssh/ssh_host_*_key*",  # every guest has a key of its own, written by the host
    "etc/resolv.conf",
    "etc/update-motd.d/*",  # two processes more for every command over SSH
    "var/lib/apt/lists/*",
    "var/cache/apt/*.bin",
    "var/lib/systemd/random-seed",
    "var/lib/dbus/machine-id",
)

# What a virtio machine with a static network and a serial log has no use for.
_MASKED_UNITS = (
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty.target",
    "ldconfig.service",
    "modprobe@.service",
    "proc-sys-fs-binfmt_misc.automount",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-binfmt.service",
    "systemd-firstboot.service",
    "systemd-hwdb-update.service",
    "systemd-journal-catalog-update.service",
    "systemd-modules-load.service",
    "systemd-network-generator.service",
    "systemd-pcrphase-sysinit.service",
    "systemd-pcrphase.service",
    "systemd-pstore.service",
    "systemd-random-seed.service",
    "systemd-sysusers.service",
    "systemd-update-done.service",
    "systemd-update-utmp-runlevel.service",
    "systemd-update-utmp.service",
)


def finish(tree: Path) -> None:
    """Make an installed Debian a guest: no identity, our network unit, and little to do at boot."""
    prune(tree, _UNWANTED)
    make_directories(tree, GUEST_FILE_DIRECTORIES)
    make_directories(tree, ("root", "root/.ssh"), 0o700)
    write(tree, "etc/machine-id", "")
    write(tree, "etc/hostname", "debian\n")
    write(tree, "etc/fstab", "")
    for unit in _MASKED_UNITS:
        link(tree, f"etc/systemd/system/{unit}", "/dev/null")
    # Cards keep the kernel's names: a rename would race with the network script.
    link(tree, "etc/systemd/network/99-default.link", "/dev/null")
    link(tree, "etc/systemd/system-generators/systemd-getty-generator", "/dev/null")
    write(
        tree,
        "etc/systemd/system/systemd-udev-trigger.service.d/banger.conf",
        skeleton("debian/udev-trigger.conf"),
    )
    unit = "banger-network.service"
    write(tree, f"etc/systemd/system/{unit}", skeleton(f"debian/{unit}"))
    link(tree, f"etc/systemd/system/multi-user.target.wants/{unit}", f"../{unit}")
    link(tree, "etc/systemd/system/default.target", "/lib/systemd/system/multi-user.target")
