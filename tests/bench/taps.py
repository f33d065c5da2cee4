"""Number 8: the tap stage, and the four bare commands by which an administrator would make a tap as good."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from statistics import median

from banger.contracts.calls import StageCall
from banger.contracts.guest_filter import guest_removal, guest_rules, script
from banger.contracts.names import BRIDGE, Slot, link_alias, new_id, tap_name
from banger.shell import find_tool
from tests.bench.own_farm import Bench
from tests.bench.report import Line, spread

_ROUNDS = 20
_MORE = 200  # as many as a host is promised to have
_COMMANDS = 4
_TARGET_MS = _COMMANDS * 5


def measure(bench: Bench) -> list[Line]:
    """Make a tap both ways in turn, on a bridge that has no other, and then on one with two hundred more."""
    alone = _rounds(bench)
    others = [bench.row.plan(bench.images["micro"], slot=2 + number) for number in range(_MORE)]
    try:
        for other in others:
            bench.row.do(other["admit"])
            bench.row.do(other["tap"])
        crowded = _rounds(bench)
    finally:
        for other in others:
            bench.row.undo(other["tap"])
            bench.row.undo(other["admit"])
    return [_line("8  the tap stage", alone), _line(f"   the same, beside {_MORE} taps", crowded)]


def _line(what: str, measured: tuple[Sequence[float], Sequence[float]]) -> Line:
    stage_ms, bare_ms = measured
    return Line(
        what,
        spread(stage_ms),
        f"{spread(bare_ms)} for {_COMMANDS} bare commands",
        median(stage_ms) / median(bare_ms),
        f"<= {_TARGET_MS} ms",
        median(stage_ms) <= _TARGET_MS,
    )


def _rounds(bench: Bench) -> tuple[list[float], list[float]]:
    """Return what the stage took and what the commands took (ms), after one of each that is not counted."""
    steps = bench.row.plan(bench.images["micro"], slot=_MORE + 10)
    slot = bench.row.host.policy.slot(_MORE + 10)
    stage_ms, bare_ms = [], []
    bench.row.do(steps["admit"])
    try:
        for number in range(_ROUNDS + 1):
            stage, bare = _stage(bench, steps["tap"]), _by_hand(slot)
            if number:
                stage_ms.append(stage)
                bare_ms.append(bare)
    finally:
        bench.row.undo(steps["admit"])
    return stage_ms, bare_ms


def _stage(bench: Bench, tap: StageCall) -> float:
    started = time.perf_counter()
    bench.row.do(tap)
    took_ms = (time.perf_counter() - started) * 1000
    bench.row.undo(tap)
    return took_ms


def _by_hand(slot: Slot) -> float:
    """Make a tap as good: but for its MAC in the host's and the bridge's memory, which are two more."""
    vm_id = new_id()
    tap, rules = tap_name(vm_id), script(guest_rules(vm_id, slot, nat=False))
    ip, bridge, nft = map(find_tool, ("ip", "bridge", "nft"))
    started = time.perf_counter()
    _run(ip, "tuntap", "add", "dev", tap, "mode", "tap", "user", str(slot.uid))
    _run(nft, "-f", "-", stdin=rules)
    _run(ip, "link", "set", "dev", tap, "alias", link_alias(vm_id), "master", BRIDGE, "up")
    _run(bridge, "link", "set", "dev", tap, "isolated", "on", "learning", "off", "flood", "off")
    took_ms = (time.perf_counter() - started) * 1000
    _run(ip, "link", "del", "dev", tap)
    _run(nft, "-f", "-", stdin=script(guest_removal(vm_id)))
    return took_ms


def _run(*argv: str, stdin: bytes = b"") -> None:
    subprocess.run(argv, input=stdin, capture_output=True, check=True)
