"""The guests' network on this host: the bridge that is their gateway, and the rules that they all share.

Made before root serves its first request and mended by each `banger farm up`; root then only adds taps. A
host has one, whatever number of farms: the last to stop without a tap in sight takes it away, and `up` gives
it back. Under systemd a unit of its own does the same (``banger.system.preparation``).
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute, NetlinkError

from banger.contracts.errors import ConflictError
from banger.contracts.guest_filter import base_removal, base_rules, script
from banger.contracts.names import BRIDGE, TAP_PREFIX, mac_address
from banger.embedded import host_resolver
from banger.name_server import gateway, resolved
from banger.settings import Settings
from banger.shell import find_tool, run

NFT_DEADLINE_S = 60.0  # the first time, the kernel loads half a dozen modules


def ensure(settings: Settings) -> None:
    """Make the network, or mend it; changes nothing that is right. Needs root.

    ConflictError when an interface with the bridge's name is no bridge.
    """
    _transact(base_rules(settings.network))
    with IPRoute() as ip:
        _ensure_bridge(ip, settings.network)
    tell = host_resolver.introduce if resolved(settings).names else host_resolver.forget
    tell(gateway(settings))


def remove_if_unused(settings: Settings) -> bool:
    """Remove the network unless a guest's tap is there; return whether it is gone. Needs root."""
    with IPRoute() as ip:
        if _any_tap(ip):
            return False
        for link in _bridges(ip):
            if _kind(link) == "bridge":
                with _forgiving(errno.ENODEV):
                    ip.link("del", index=link["index"])
    _transact(base_removal())
    return True


def _ensure_bridge(ip: IPRoute, network: IPv4Network) -> None:
    address = network.network_address + 1
    # A MAC of its own: without one a bridge takes its ports', and guests would lose it with a tap.
    mac = mac_address(address)
    with _forgiving(errno.EEXIST):
        ip.link("add", ifname=BRIDGE, kind="bridge", address=mac)
    (link,) = _bridges(ip)
    if _kind(link) != "bridge":
        raise ConflictError(
            f"the interface {BRIDGE} is not a bridge",
            details=f"it is of kind {_kind(link)!r}",
            resolution=f"Remove or rename it: banger needs {BRIDGE} for its guests.",
        )
    ip.link("set", index=link["index"], address=mac)
    ipv6 = Path("/proc/sys/net/ipv6/conf", BRIDGE, "disable_ipv6")
    if ipv6.exists():
        ipv6.write_text("1")  # guests have none, and the host should not be found over it
    with _forgiving(errno.EEXIST):
        ip.addr("add", index=link["index"], address=str(address), prefixlen=network.prefixlen)
    ip.link("set", index=link["index"], state="up")


def _bridges(ip: IPRoute) -> list[Any]:
    return [link for link in ip.get_links() if link.get("IFLA_IFNAME") == BRIDGE]


def _any_tap(ip: IPRoute) -> bool:
    return any(str(link.get("IFLA_IFNAME")).startswith(TAP_PREFIX) for link in ip.get_links())


def _kind(link: Any) -> str | None:
    kind: str | None = link.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND")
    return kind


def _transact(lines: list[str]) -> None:
    run((find_tool("nft"), "-f", "-"), stdin=script(lines), deadline_s=NFT_DEADLINE_S)


@contextlib.contextmanager
def _forgiving(code: int) -> Iterator[None]:
    try:
        yield
    except NetlinkError as error:
        if error.code != code:
            raise
