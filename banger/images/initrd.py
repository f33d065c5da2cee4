"""The initrd: busybox, the drivers of a virtio machine in the order they load, and our ``init``."""

from __future__ import annotations

import hashlib
import lzma
import shutil
from collections.abc import Sequence
from pathlib import Path

from banger.contracts.errors import ToolFailedError
from banger.images.tree import link, make_directories, skeleton, write
from banger.shell import find_tool, run

_DEADLINE_S = 60.0

# failover and net_failover come in as dependencies of virtio_net. A kernel may have any of these built in.
MODULES = ("virtio_mmio", "virtio_blk", "virtio_net", "virtio_rng", "ext4")
_APPLETS = ("sh", "mount", "insmod", "usleep", "switch_root")  # what ``init`` calls


def recipe_digest() -> str:
    """Return a digest of all of ours that an initrd is made from: this code, and the guest's ``init``.

    A changed comment changes it too, and costs one build; a change that went unseen would boot last
    week's ``init``.
    """
    return hashlib.sha256(Path(__file__).read_bytes() + skeleton("initrd/init").encode()).hexdigest()[:12]


def make_initrd(packages: Path, version: str, target: Path, modules: Sequence[str] = MODULES) -> None:
    """Write the initrd for a kernel version, from a directory with its package and busybox unpacked."""
    root = target.with_suffix(".tree")
    root.mkdir()
    make_directories(root, ("bin", "dev", "proc", "sys", "sysroot", "modules"))
    shutil.copy(packages / "usr/bin/busybox", root / "bin/busybox")
    (root / "bin/busybox").chmod(0o755)
    for applet in _APPLETS:
        link(root, f"bin/{applet}", "busybox")
    write(root, "init", skeleton("initrd/init"), 0o755)
    for number, module in enumerate(_load_order(packages, version, modules)):
        name = module.name.removesuffix(".xz").removesuffix(".zst")
        (root / "modules" / f"{number:02}-{name}").write_bytes(_decompressed(module))
    _pack(root, target)
    shutil.rmtree(root)


def _load_order(packages: Path, version: str, modules: Sequence[str]) -> tuple[Path, ...]:
    """Return the module files to load, dependencies first, each once; built-in ones need no file."""
    run((find_tool("depmod"), "--basedir", str(packages), version), deadline_s=_DEADLINE_S)
    argv = (
        find_tool("modprobe"),
        "--dirname",
        str(packages),
        "--set-version",
        version,
        "--show-depends",
        "--all",
    )
    said = run((*argv, *modules), deadline_s=_DEADLINE_S).stdout.decode()
    paths = [line.split()[1] for line in said.splitlines() if line.startswith("insmod ")]
    return tuple(Path(path) for path in dict.fromkeys(paths))


def _decompressed(module: Path) -> bytes:
    # Decompressed here, once, and not by every guest at every boot.
    match module.suffix:
        case ".ko":
            return module.read_bytes()
        case ".xz":
            return lzma.decompress(module.read_bytes())
        case ".zst":
            argv = (find_tool("zstd"), "--decompress", "--stdout", "--quiet", str(module))
            return run(argv, deadline_s=_DEADLINE_S, max_output=64 * 1024 * 1024).stdout
        case suffix:
            raise ToolFailedError(f"kernel module {module.name} is compressed in an unknown way ({suffix})")


def _pack(root: Path, target: Path) -> None:
    """Pack a tree as the kernel wants it: a cpio archive, uncompressed, since unpacking costs boot time."""
    names = sorted(str(path.relative_to(root)) for path in root.rglob("*"))
    argv = (find_tool("cpio"), "--create", "--format=newc", "--owner=0:0", "--reproducible", "--quiet")
    listing = "".join(f"{name}\n" for name in names).encode()
    run((*argv, f"--file={target}"), deadline_s=_DEADLINE_S, stdin=listing, cwd=root)
