"""The root directory of all VMMs of a host: read-only, with nothing in it that a VMM does not need.

``python -m banger.embedded.vmm_root PLACE KERNELS ARGV…``, run by root behind ``unshare --mount``: makes it
in this mount namespace alone, then becomes the root worker. A VM's own files come to its VMM as
descriptors, so nothing is ever mounted for one VM, and nothing is left when the worker and its VMMs are gone.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import banger.keeper
from banger.contracts.errors import BangerError
from banger.contracts.names import KEEPER, KERNELS
from banger.settings import Settings
from banger.shell import find_tool, run

DEADLINE_S = 10
SYSTEM = (Path("/usr"), Path("/lib"), Path("/lib64"), Path("/bin"), Path("/sbin"))
DEVICES = (Path("/dev/null"), Path("/dev/urandom"), Path("/dev/kvm"))


def rooted_argv(argv: tuple[str, ...], settings: Settings) -> tuple[str, ...]:
    """Return the argv that runs another one beside the VMMs' root directory.

    Propagation is one-way (slave): what is mounted on the host later is seen inside, nothing of ours outside.
    """
    return (
        *(find_tool("unshare"), "--mount", "--propagation", "slave", "--"),
        *(sys.executable, "-m", "banger.embedded.vmm_root"),
        *(str(settings.paths.vmm_root), str(settings.paths.kernels), *argv),
    )


def main(arguments: list[str]) -> None:
    """Do what the arguments say; does not return."""
    place, kernels, *argv = arguments
    before = os.umask(0o022)  # VMs' uids pass through here, whatever a service's own files are
    make(Path(place), Path(kernels))
    os.umask(before)
    os.execv(argv[0], argv)  # noqa: S606 - our own plan's argv, absolute, no shell


def make(place: Path, kernels: Path) -> None:
    """Mount the root directory; BangerError where the whole machine would see it."""
    # The ids of mounts are another namespace's own; its name may not be read by a process with fewer rights.
    if Path("/proc/thread-self/mountinfo").read_text() == Path("/proc/1/mountinfo").read_text():
        raise BangerError(
            "the VMMs' root directory would be mounted for the whole machine",
            resolution="Start the root worker behind `unshare --mount --propagation slave`.",
        )
    place.mkdir(mode=0o755, parents=True, exist_ok=True)
    _mount("-t", "tmpfs", "-o", "mode=0755,size=1m,nosuid,nodev", "banger-vmm-root", place)
    for path in SYSTEM:
        if path.is_symlink():
            (place / path.name).symlink_to(path.readlink())
        elif path.is_dir():
            _show(path, place / path.name)
    if not (python := Path(sys.base_prefix).resolve()).is_relative_to("/usr"):
        _show(python, place / python.relative_to("/"))
    _show(kernels, place / KERNELS.relative_to("/"))
    (place / "proc").mkdir()  # of the tools that work on a guest's disk, which mount it for themselves
    (place / "dev").mkdir()
    for device in filter(Path.exists, DEVICES):
        (node := place / device.relative_to("/")).touch()
        _mount("--bind", device, node)
    # A copy: what leads to our code may be closed to the VMs' uids.
    keeper = place / KEEPER.relative_to("/")
    keeper.parent.mkdir()
    keeper.write_bytes(Path(banger.keeper.__file__).with_name(keeper.name).read_bytes())
    keeper.chmod(0o444)
    _mount("-o", "remount,ro", place)


def _show(source: Path, target: Path) -> None:
    target.mkdir(parents=True)
    _mount("-o", "bind,ro,nosuid,nodev", source, target)


def _mount(*arguments: str | Path) -> None:
    run((find_tool("mount"), *map(str, arguments)), deadline_s=DEADLINE_S)


if __name__ == "__main__":
    main(sys.argv[1:])
