"""What a host needs before its workers start: ``python -m banger.system.preparation up``; ``down`` after."""

from __future__ import annotations

import sys

from banger import accelerator
from banger.embedded import network
from banger.settings import load_settings


def main(arguments: list[str]) -> int:
    """Make the guests' network and try KVM (up), or take the network away unless a guest is on it (down)."""
    settings = load_settings()
    if arguments == ["down"]:
        network.remove_if_unused(settings)
        return 0
    network.ensure(settings)
    accelerator.probe(settings)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
