"""What a host needs before its workers start: ``python -m banger.system.preparation up``; ``down`` after."""

from __future__ import annotations

import sys

from banger import accelerator
from banger.embedded import network, udev
from banger.settings import load_settings


def main(arguments: list[str]) -> int:
    """Make the guests' network, have udev leave their disks alone, and try KVM (up); or take the first two
    away, unless a guest is on the network (down).
    """
    settings = load_settings()
    if arguments == ["down"]:
        if network.remove_if_unused(settings):
            udev.remove(settings)
        return 0
    udev.ensure(settings)
    network.ensure(settings)
    accelerator.probe(settings)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
