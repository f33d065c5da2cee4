"""A real ``micro`` build: what is in it, what a SIGKILL leaves, what runs in the guest."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import pytest

from banger.contracts.names import HostPaths
from banger.images import Catalogue, ImageManifest, build_image

pytestmark = pytest.mark.integration

DEADLINE_S = 60.0
BUILD = """
import sys
from pathlib import Path
from banger.contracts.names import HostPaths
from banger.images import build_image
build_image("micro", HostPaths(Path(sys.argv[1]), Path("/run")))
"""
SCRIPTS = {
    "network-up": files("banger.guest").joinpath("network-up"),
    "initrd/init": files("banger.images").joinpath("skeleton", "initrd", "init"),
    "micro/init": files("banger.images").joinpath("skeleton", "micro", "init"),
}


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> HostPaths:
    return HostPaths(tmp_path_factory.mktemp("store"), Path("/run"))


@pytest.fixture(scope="module")
def image(paths: HostPaths) -> ImageManifest:
    """One real build, by a builder whose umask would close everything to others."""
    before = os.umask(0o077)
    try:
        return build_image("micro", paths, include=("mount",))
    finally:
        os.umask(before)


def stat(disk: Path, path: str) -> tuple[int, int, int]:
    """Return a file's permission bits, uid and gid inside an ext4."""
    said = subprocess.run(
        ["debugfs", "-R", f"stat {path}", str(disk)], capture_output=True, text=True, check=True
    ).stdout
    assert "Mode:" in said, f"{path} is not in {disk}"
    words = said.replace(":", " ").split()
    mode, uid, gid = (words[words.index(word) + 1] for word in ("Mode", "User", "Group"))
    return int(mode, 8), int(uid), int(gid)


@pytest.mark.parametrize(
    ("path", "mode"),
    [
        ("/", 0o755),
        ("/root", 0o700),
        ("/tmp", 0o1777),
        ("/etc/banger", 0o755),
        ("/etc/ssh/sshd_config.d", 0o755),
        ("/usr/local/lib/banger", 0o755),
        ("/etc/passwd", 0o644),
        ("/usr/sbin/init", 0o755),
        ("/usr/sbin/dropbear", 0o755),
        ("/usr/bin/mount", 0o4755),  # setuid, and the package's own: no applet is in its place
    ],
)
def test_owners_and_modes_are_right_whatever_the_builder_s_umask(
    paths: HostPaths, image: ImageManifest, path: str, mode: int
) -> None:
    assert stat(paths.rootfs(image.id), path) == (mode, 0, 0)


def test_the_file_system_is_clean_small_and_sparse(paths: HostPaths, image: ImageManifest) -> None:
    rootfs = paths.rootfs(image.id)
    subprocess.run(["e2fsck", "-fn", str(rootfs)], check=True, capture_output=True)
    assert rootfs.stat().st_blocks * 512 < 40 * 1024 * 1024
    assert image.rootfs.bytes > 64 * 1024 * 1024


def test_others_may_read_the_store_and_nobody_changes_it(paths: HostPaths, image: ImageManifest) -> None:
    for directory in (paths.image(image.id), paths.kernel(image.kernel)):
        assert directory.stat().st_mode & 0o777 == 0o755
        assert directory.parent.stat().st_mode & 0o777 == 0o755
        assert {file.stat().st_mode & 0o777 for file in directory.iterdir()} == {0o444}


def test_the_kernel_has_what_both_vmms_boot(paths: HostPaths, image: ImageManifest) -> None:
    directory = paths.kernel(image.kernel)
    assert (directory / "vmlinux").read_bytes()[:4] == b"\x7fELF"
    with (directory / "initrd.img").open() as initrd:
        listing = subprocess.run(
            ["cpio", "--list", "--quiet"], stdin=initrd, capture_output=True, text=True, check=True
        ).stdout.split()
    names = [name.removeprefix("modules/").partition("-")[2] for name in listing if name.endswith(".ko")]
    assert {"virtio_mmio.ko", "virtio_blk.ko", "virtio_net.ko"} <= set(names)
    assert names.index("failover.ko") < names.index("net_failover.ko") < names.index("virtio_net.ko")


def test_what_was_built_verifies(paths: HostPaths, image: ImageManifest, tmp_path: Path) -> None:
    Catalogue(paths).verify(image.id, tmp_path)
    started = time.monotonic()
    Catalogue(paths).verify(image.id, tmp_path)
    assert time.monotonic() - started < 0.1


def test_a_sigkill_leaves_no_half_image_and_no_process(paths: HostPaths, image: ImageManifest) -> None:
    killed = subprocess.Popen([sys.executable, "-c", BUILD, str(paths.state)])
    wait_for(lambda: any(paths.images.glob(".scratch-*/tree/usr")))
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    wait_for(lambda: not mentioning(paths.images))
    assert Catalogue(paths).list() == (image,)
    assert any(paths.images.glob(".scratch-*"))

    rebuilt = build_image("micro", paths)
    assert not any(paths.images.glob(".scratch-*"))
    assert Catalogue(paths).resolve("micro") == rebuilt
    assert rebuilt.kernel == image.kernel


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def mentioning(path: Path) -> list[str]:
    """Return the processes that have a path in their command line, pytest's own aside."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if str(path).encode() in words:
            found.append(process.name)
    return found


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
@pytest.mark.parametrize("name", SCRIPTS)
def test_the_guest_s_scripts_are_clean(name: str) -> None:
    subprocess.run(["shellcheck", "--shell=sh", "-"], input=SCRIPTS[name].read_text(), text=True, check=True)


@pytest.mark.parametrize("tools", ["iproute2", "busybox"])
def test_network_up_configures_the_card_with_our_mac_and_may_run_twice(tmp_path: Path, tools: str) -> None:
    if tools == "busybox":
        (tmp_path / "ip").symlink_to("/bin/busybox")
        (tmp_path / "cat").symlink_to("/bin/busybox")
    script = tmp_path / "network-up"
    script.write_text(SCRIPTS["network-up"].read_text())
    around = f"""
        set -e
        ip link add decoy type bridge
        ip link add card type bridge
        ip link set card address 02:fc:ac:10:00:02
        mount -t tmpfs none /etc
        mkdir /etc/banger
        printf 'ADDRESS=172.16.0.2\\nPREFIX=24\\nGATEWAY=172.16.0.1\\nMAC=02:fc:ac:10:00:02\\n' \
            > /etc/banger/network.conf
        mount -t sysfs none /sys
        for _ in 1 2; do PATH={tmp_path}:$PATH sh {script}; done
        ip -br -4 addr show card
        ip route show default
    """
    said = subprocess.run(
        ["unshare", "--net", "--mount", "sh", "-c", around], capture_output=True, text=True, check=True
    ).stdout
    assert said.split()[2] == "172.16.0.2/24"
    assert said.splitlines()[1].startswith("default via 172.16.0.1 dev card")
