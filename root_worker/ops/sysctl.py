"""The two kernel switches that banger turns, in the network namespace it runs in."""

from __future__ import annotations

from pathlib import Path

_NET = Path("/proc/sys/net")


def enable_forwarding() -> None:
    """Let the host route IPv4 for its guests. It stays on: other guests, or other programs, rely on it."""
    switch = _NET / "ipv4/ip_forward"
    if switch.read_text().strip() != "1":
        switch.write_text("1")


def disable_ipv6(interface: str) -> None:
    """Take IPv6 off an interface; nothing to do on a kernel without it."""
    switch = _NET / "ipv6/conf" / interface / "disable_ipv6"
    if switch.exists():
        switch.write_text("1")
