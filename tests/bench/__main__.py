"""``make bench``: the numbers that banger promises, measured on this machine in one run.

A benchmark, not a test: it prints what it finds and judges nobody. It runs in network and mount namespaces of
its own (``scripts/bench``), with farms and images of its own on an XFS in a loop file, and leaves nothing.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from rich.console import Console

from tests.bench import (
    batch_real,
    batch_stub,
    boot,
    command_line,
    idle,
    own_farm,
    preparation,
    queueing,
    report,
    root_door,
    sandbox,
    stub_farm,
    taps,
)


class _Part(NamedTuple):
    """What is measured together, by a name to ask for it alone."""

    name: str
    title: str
    measure: Callable[[own_farm.Bench], list[report.Line]]


def main() -> None:
    """Measure everything that is asked for, one after the other, and print one table."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("bench: it was told to end"))  # and leaves nothing then
    say = Console(stderr=True).log
    real = (
        _Part("boot", "booting, through the farm and by hand", boot.measure),
        _Part("preparation", "preparing hosts, small and large base image", preparation.measure),
        _Part("queueing", "stages, through the queues and in a row", queueing.measure),
        _Part("root-door", "root's door", root_door.measure),
        _Part("sandbox", "root's tools, confined and not", sandbox.measure),
        _Part("taps", "taps, by the stage and by hand", taps.measure),
        _Part("command-line", "the command line", command_line.measure),
        _Part("idle", "the farm at rest", idle.measure),
        _Part(
            "batch-real",
            "a batch of guests, and the same by a shell script",
            partial(batch_real.measure, jobs=options.jobs or batch_real.JOBS),
        ),
    )
    sizes = batch_stub.SIZES if options.jobs is None else batch_stub.up_to(options.jobs)
    stubs = (_Part("batch-stub", "batches of stubs", partial(batch_stub.measure, sizes=sizes)),)
    lines: list[report.Line] = []
    for parts, change in ((real, own_farm.as_planned), (stubs, stub_farm.stubbed)):
        wanted = [part for part in parts if part.name.startswith(options.only)]
        if not wanted:
            continue
        grown = own_farm.GROWN if any(part.name == "preparation" for part in wanted) else {}
        with own_farm.running(say, grown=grown, change=change) as bench:
            for part in wanted:
                say(part.title)
                lines += part.measure(bench)
    report.show(lines)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument(
        "--only", metavar="NAME", default="", help="what begins so: boot, batch, batch-real, idle, …"
    )
    parser.add_argument("--jobs", type=int, metavar="N", help="jobs of the largest batch (40 and 1,000)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
