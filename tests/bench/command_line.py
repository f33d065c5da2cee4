"""Number 4: how long the command line takes to answer."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from tests.bench.own_farm import Bench
from tests.bench.report import Line, spread

BANGER = Path(sys.prefix) / "bin/banger"
_ROUNDS = 10
_COMMANDS = ((("--help",), 250), (("vm", "list"), 400))


def measure(bench: Bench) -> list[Line]:
    """Run each command several times, after one that is not counted."""
    environment = bench.environment
    lines = []
    for words, target_ms in _COMMANDS:
        _run(words, environment)
        took_ms = [_run(words, environment) for _ in range(_ROUNDS)]
        lines.append(
            Line(
                f"4  banger {' '.join(words)}",
                spread(took_ms),
                target=f"<= {target_ms} ms",
                ratio=median(took_ms) / target_ms,
                against="target",
                kept=median(took_ms) <= target_ms,
            )
        )
    return lines


def _run(words: tuple[str, ...], environment: dict[str, str]) -> float:
    started = time.perf_counter()
    subprocess.run((BANGER, *words), env=environment, stdout=subprocess.DEVNULL, check=True)
    return (time.perf_counter() - started) * 1000
