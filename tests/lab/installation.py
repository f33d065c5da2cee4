"""A farm on the lab's host, by the steps that docs/production.md gives an administrator."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from lab.machine import Machine
from lab.steps import blocks

# Each in a shell of its own, where an administrator's files lie: the wheel, and the tar of the images.
WORK_DIR = "/root/install"
_DEADLINE_S = 300.0

Progress = Callable[[str], None]


def install_farm(machine: Machine, wheel: Path, progress: Progress = lambda _line: None) -> None:
    """Install banger from a wheel, with the images of the machine's second disk, and start its services."""
    bring(machine, wheel)
    machine.run(f"ln -sf /dev/vdb {WORK_DIR}/images.tar")
    packages, code, farm = blocks("Packages"), blocks("The code"), blocks("The farm")
    for name, steps in (
        ("packages", packages),
        ("the code", code),
        ("images", blocks("Images from another host")[1:]),
        ("the farm", farm),
    ):
        started = time.monotonic()
        for step in steps:
            machine.run(f"cd {WORK_DIR}\n{step}", deadline_s=_DEADLINE_S)
        progress(f"installed {name} in {time.monotonic() - started:.0f} s")


def bring(machine: Machine, wheel: Path) -> None:
    """Have this wheel, and no other, where the steps of an installation look for it."""
    machine.run(f"mkdir -p {WORK_DIR}; rm -f {WORK_DIR}/banger-*.whl")
    machine.put(wheel, f"{WORK_DIR}/{wheel.name}")
