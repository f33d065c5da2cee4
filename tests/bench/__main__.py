"""``make bench``: the numbers that banger promises, measured on this machine in one run.

A benchmark, not a test: it prints what it finds and judges nobody. It runs in network and mount namespaces of
its own (``scripts/bench``), with a farm and images of its own on an XFS in a loop file, and leaves nothing.
"""

from __future__ import annotations

from rich.console import Console

from tests.bench import boot, command_line, idle, own_farm, preparation, queueing, report, root_door, sandbox


def main() -> None:
    """Measure everything, one after the other, and print one table."""
    say = Console(stderr=True).log
    with own_farm.running(say) as bench:
        lines: list[report.Line] = []
        for title, measure in (
            ("booting, through the farm and by hand", boot.measure),
            ("preparing hosts, small and large base image", preparation.measure),
            ("stages, through the queues and in a row", queueing.measure),
            ("root's door", root_door.measure),
            ("root's tools, confined and not", sandbox.measure),
            ("the command line", command_line.measure),
            ("the farm at rest", idle.measure),
        ):
            say(title)
            lines += measure(bench)
    report.show(lines)


if __name__ == "__main__":
    main()
