"""A farm on the lab's host, by the steps that docs/production.md gives an administrator."""

from __future__ import annotations

from pathlib import Path

from lab.machine import Machine
from lab.steps import blocks

WORK_DIR = "/root/install"  # where the administrator has what was brought: a wheel, and the tar of the images
PYTHON = "/opt/banger/bin/python"
_DEADLINE_S = 400.0


def bring(machine: Machine, wheel: Path) -> None:
    """Have this wheel and no other where the steps look for it; the second disk is the tar of images."""
    machine.run(f"mkdir -p {WORK_DIR}; rm -f {WORK_DIR}/banger-*.whl; ln -sf /dev/vdb {WORK_DIR}/images.tar")
    machine.put(wheel, f"{WORK_DIR}/{wheel.name}")


def unpack_images(machine: Machine) -> None:
    """Have the images that were brought where the farm looks for them."""
    machine.run(f"cd {WORK_DIR}\n{blocks('Images from another host')[-1]}", deadline_s=_DEADLINE_S)


def run_steps(machine: Machine, *headings: str, user: str = "root") -> str:
    """Run all commands beneath headings of the document, each block in a shell of its own.

    Returns what they print.
    """
    place = f"cd {WORK_DIR}\n" if user == "root" else ""
    return "".join(
        machine.run(place + block, deadline_s=_DEADLINE_S, user=user)
        for heading in headings
        for block in blocks(heading)
    )
