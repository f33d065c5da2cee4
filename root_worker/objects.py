"""What there is on this host that is named like ours, one look for each kind. Nothing is changed here."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from errno import ENODEV, ENOENT
from pathlib import Path

from pyroute2 import IPRoute
from pyroute2.netlink.nfnetlink.nftsocket import NFT_MSG_GETCHAIN, NFTSocket, nft_chain_msg

from banger.contracts.inventory import Found, Kind, found_dm, found_id, found_loop, found_tap, vm_told
from banger.contracts.names import NFT_TABLE, TAP_PREFIX, dm_name, unit_name
from banger.contracts.vmm_limits import LIMIT_FILES
from root_worker.host import RootHost
from root_worker.ops import dm_snapshot
from root_worker.vmm import cgroups, units

_BLOCK_DEVICES = Path("/sys/block")


def _taps(host: RootHost) -> Iterator[Found]:
    with IPRoute() as ip:
        for link in ip.get_links():
            if (name := link.get("IFLA_IFNAME")).startswith(TAP_PREFIX):
                owner = link.get_nested("IFLA_LINKINFO", "IFLA_INFO_DATA", "IFLA_TUN_OWNER")
                yield found_tap(name, link.get("IFLA_IFALIAS"), host.policy.slot_of(owner))


def _filters(_: RootHost) -> Iterator[Found]:
    with NFTSocket(nfgen_family=socket.AF_BRIDGE) as nft:
        for chain in nft.request_get(nft_chain_msg(), NFT_MSG_GETCHAIN):
            name = chain.get("NFTA_CHAIN_NAME")
            if chain.get("NFTA_CHAIN_TABLE") == NFT_TABLE and name.startswith(TAP_PREFIX):
                yield Found(kind="filter", name=name)


def _dm_devices(host: RootHost) -> Iterator[Found]:
    for device in _BLOCK_DEVICES.iterdir():
        if (name := _attribute(device, "dm/name")).startswith(dm_name("")):
            files = device.glob("slaves/*/loop/backing_file")
            disks = [Path(_attribute(device, str(file))) for file in files]
            yield found_dm(name, disks, host.paths.vms.resolve(), dm_snapshot.usage(name))


def _loops(host: RootHost) -> Iterator[Found]:
    for device in _BLOCK_DEVICES.iterdir():
        if file := _attribute(device, "loop/backing_file"):
            ours = _attribute(device, "loop/autoclear") == "1"  # which losetup's are not
            yield from found_loop(device.name, file, host.paths.vms.resolve(), ours=ours)


def _jails(host: RootHost) -> Iterator[Found]:
    with suppress(FileNotFoundError):
        yield from (found_id("jail", entry.name, entry.name) for entry in os.scandir(host.paths.jails))


def _cgroups(host: RootHost) -> Iterator[Found]:
    for controller in LIMIT_FILES:
        with suppress(FileNotFoundError):
            for group in cgroups.group_of(host.paths, controller, "")[0].iterdir():
                if group.is_dir():
                    yield found_id("cgroup", group.name, group.name)


def _units(host: RootHost) -> Iterator[Found]:
    if host.units:  # else they are those of another farm on this machine
        before, after = unit_name("*").split("*")
        for file in units.TRANSIENT.glob(unit_name("*")):
            yield found_id("unit", file.name, file.name.removeprefix(before).removesuffix(after))


def nobodys_process(pid: int, slot: int, host: RootHost) -> Found:
    """Return a process of a slot that is no VM's, and which VM's it once was, if that can be told."""
    said = []
    with suppress(OSError):  # it has ended
        said = [Path(f"/proc/{pid}", name).read_text(errors="replace") for name in ("cgroup", "cmdline")]
    return Found(kind="process", name=str(pid), vm_id=vm_told(said, host.paths.cgroups), slot=slot)


def _attribute(device: Path, name: str) -> str:
    try:
        return (device / name).read_text().rstrip("\n")
    except OSError as error:
        if error.errno not in (ENOENT, ENODEV):
            raise
        return ""  # it has none, or is gone


LOOKS: dict[Kind, Callable[[RootHost], Iterable[Found]]] = {
    "tap": _taps,
    "filter": _filters,
    "dm": _dm_devices,
    "loop": _loops,
    "jail": _jails,
    "cgroup": _cgroups,
    "unit": _units,
}
