"""The lab's Debian as a directory: its packages, its kernel's modules, and who may come in over SSH."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from banger.images.apt import bootstrap
from banger.images.initrd import MODULES, make_initrd
from banger.images.tree import link, write
from banger.shell import find_tool, run
from lab import recipe

_DEADLINE_S = 300.0
_NETWORK = """\
[Match]
Driver=virtio_net
[Network]
Address=10.0.2.15/24
Gateway=10.0.2.2
"""
_SSHD = """\
PermitRootLogin prohibit-password
UseDNS no
MaxSessions 64
MaxStartups 64
"""
# No guest may run on the first CPU. Wherever a program's floating-point state is restored, QEMU 7.2 clears a
# flag of that CPU's without a lock, in the word that tells whether a guest runs there: now and then it brings
# back what the word said before a guest's end, and our kernel goes on as if it were the guest.
_SLICES = ("system.slice", "user.slice", "banger.slice")
_CONFINED = f"[Slice]\nAllowedCPUs=1-{recipe.CPUS - 1}\n"
# Nothing here waits for anybody, and what a test machine's clock and disks need nobody for stays off.
_MASKED = (
    *(
        "apt-daily.timer",
        "apt-daily-upgrade.timer",
        "dpkg-db-backup.timer",
        "e2scrub_all.timer",
        "fstrim.timer",
    ),
    *("e2scrub_reap.service", "getty@tty1.service", "systemd-networkd-wait-online.service", "man-db.timer"),
    *("systemd-timesyncd.service", "systemd-pstore.service", "serial-getty@ttyS0.service"),
)


def make_debian(target: Path) -> None:
    """Make ``target`` a directory with the host's tree, vmlinuz, initrd.img, and the key to come in with."""
    target.mkdir()
    tree = target / "tree"
    bootstrap(
        tree, recipe.packages(), suite=recipe.SUITE, mirror=None, variant="minbase", without=recipe.WITHOUT
    )
    _add_kernel(target, tree)
    _make_a_machine(target, tree)


def _add_kernel(target: Path, tree: Path) -> None:
    """Take the kernel from its package, with the modules of a virtual machine, and make our initrd for it."""
    unpacked = target / "kernel"
    bootstrap(unpacked, (recipe.KERNEL, "busybox-static"), suite=recipe.SUITE, mirror=None, variant="extract")
    packaged = next(unpacked.glob("boot/vmlinuz-*"))
    version = packaged.name.removeprefix("vmlinuz-")
    shutil.copy(packaged, target / "vmlinuz")
    make_initrd(unpacked, version, target / "initrd.img", modules=("virtio_pci", *MODULES))
    modules = Path("usr/lib/modules", version)
    for name in recipe.WITHOUT_MODULES:
        shutil.rmtree(unpacked / modules / "kernel" / name, ignore_errors=True)
    shutil.copytree(unpacked / modules, tree / modules, symlinks=True)
    run((find_tool("depmod"), "--basedir", str(tree), version), deadline_s=_DEADLINE_S)
    shutil.rmtree(unpacked)


def _make_a_machine(target: Path, tree: Path) -> None:
    for name in ("id_ed25519", "host_ed25519"):
        subprocess.run(
            ["/usr/bin/ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", target / name],
            check=True,
        )
    for key in tree.glob("etc/ssh/ssh_host_*"):
        key.unlink()
    write(tree, "etc/ssh/ssh_host_ed25519_key", (target / "host_ed25519").read_text(), 0o600)
    write(tree, "etc/ssh/ssh_host_ed25519_key.pub", (target / "host_ed25519.pub").read_text())
    write(tree, "etc/ssh/sshd_config.d/lab.conf", _SSHD)
    write(tree, "root/.ssh/authorized_keys", (target / "id_ed25519.pub").read_text(), 0o600)
    (tree / "root/.ssh").chmod(0o700)
    write(tree, "etc/hostname", f"{recipe.HOST_NAME}\n")
    write(tree, "etc/hosts", f"127.0.0.1 localhost\n127.0.1.1 {recipe.HOST_NAME}\n")
    write(tree, "etc/fstab", "/dev/vda / ext4 rw 0 0\n")
    write(tree, "etc/systemd/network/10-lab.network", _NETWORK)
    write(tree, "etc/systemd/journald.conf.d/lab.conf", "[Journal]\nStorage=persistent\nRateLimitBurst=0\n")
    write(tree, "etc/modprobe.d/lab.conf", "options kvm_amd nested=0\n")
    write(tree, "etc/pip.conf", "[global]\nno-index = true\ndisable-pip-version-check = true\n")
    for unit in _SLICES:
        write(tree, f"etc/systemd/system/{unit}.d/lab.conf", _CONFINED)
    for unit in _MASKED:
        link(tree, f"etc/systemd/system/{unit}", "/dev/null")
    link(tree, "etc/systemd/system/default.target", "/lib/systemd/system/multi-user.target")
    _inside(tree, "systemctl", "enable", "systemd-networkd", "systemd-resolved", "ssh")
    _inside(tree, "useradd", "--create-home", "--shell", "/bin/bash", recipe.OWNER)
    write(tree, f"etc/sudoers.d/{recipe.OWNER}", f"{recipe.OWNER} ALL=(ALL) NOPASSWD: ALL\n", 0o440)
    write(tree, "etc/machine-id", "")


def _inside(tree: Path, *words: str) -> None:
    run((find_tool("chroot"), str(tree), *words), deadline_s=_DEADLINE_S)
