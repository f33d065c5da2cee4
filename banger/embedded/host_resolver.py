"""This host's own resolver, told to ask the farm's name server for ``vm``: where systemd-resolved runs.

Kept by the bridge's link, it goes with that. Elsewhere nothing is changed: doctor says what an administrator
can add.
"""

from __future__ import annotations

import logging
from ipaddress import IPv4Address
from pathlib import Path

from banger.contracts.errors import ToolFailedError
from banger.contracts.names import BRIDGE
from banger.name_server import DOMAIN
from banger.shell import find_tool, run

RESOLVED = Path("/run/systemd/resolve")
DEADLINE_S = 10.0

log = logging.getLogger("banger.network")


def introduce(gateway: IPv4Address) -> bool:
    """Have ``NAME.vm`` looked up at the gateway, and nothing else; return whether it will be. Needs root.

    That it cannot be is no reason for a farm not to start: it is logged.
    """
    if not (RESOLVED.is_dir() and _is_the_machines()):
        return False
    try:
        for argv in commands(gateway):
            run((find_tool("resolvectl"), *argv), deadline_s=DEADLINE_S)
    except ToolFailedError as error:
        log.warning("this host does not look names of VMs up: %s", error)
        return False
    return True


def forget(gateway: IPv4Address) -> None:
    """Take back what ``introduce`` has told, as long as it stands as that told it. Needs root."""
    if not (RESOLVED.is_dir() and _is_the_machines()):
        return
    try:
        if all(_says(what, only) for what, _, only in commands(gateway)[:2]):
            run((find_tool("resolvectl"), "revert", BRIDGE), deadline_s=DEADLINE_S)
    except ToolFailedError as error:
        log.warning("this host still looks names of VMs up: %s", error)


def commands(gateway: IPv4Address) -> tuple[tuple[str, ...], ...]:
    """Return what resolvectl is told. Pure.

    The routing domain (``~``) is not searched, and the link is nobody's default. Nobody signs ``vm``.
    """
    return (
        ("dns", BRIDGE, str(gateway)),
        ("domain", BRIDGE, f"~{DOMAIN}"),
        ("default-route", BRIDGE, "no"),
        ("dnssec", BRIDGE, "no"),
    )


def _says(what: str, only: str) -> bool:
    said = run((find_tool("resolvectl"), what, BRIDGE), deadline_s=DEADLINE_S).stdout.decode()
    return said.partition(":")[2].split() == [only]  # Link 7 (bgr0): 172.16.0.1


def _is_the_machines() -> bool:
    """Tell whether this is systemd-resolved's own network: it knows links by their numbers alone.

    A file of /proc is another one in each network namespace; the namespace's own name may not be read by who
    has fewer rights than process 1.
    """
    here, there = Path("/proc/self/net/dev").stat(), Path("/proc/1/net/dev").stat()
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)
