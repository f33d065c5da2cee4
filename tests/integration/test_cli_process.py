"""The command line as a process: what its streams may be."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCHEMA = (
    sys.executable,
    "-c",
    "import sys; from banger.cli import main; sys.exit(main())",
    "batch",
    "schema",
)


@pytest.mark.parametrize("closed", [0, 1, 2])
def test_a_process_without_one_of_its_streams_does_its_work(closed: int) -> None:
    done = subprocess.run(SCHEMA, capture_output=True, check=True, preexec_fn=lambda: os.close(closed))
    assert done.stderr == b""
    assert (b"banger batch plan" in done.stdout) == (closed != 1)


def test_a_full_disk_behind_stdout_is_told_and_is_no_defect() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(SCHEMA, check=False, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "banger: what there is to say cannot be written: No space left on device",
        "  Make room on that disk.",
    ]


def test_a_reader_that_goes_early_is_no_defect() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(SCHEMA, check=False, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")
