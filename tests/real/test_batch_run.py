"""`banger batch run` with guests: three jobs, one of which fails, and all that is written of them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from farm_box import BANGER, Box

pytestmark = pytest.mark.real

PLAN = """\
name: three
image: micro
matrix: {letter: [a, b, c]}
max_parallel: 3
upload: [given]
run:
  - |
    mkdir -p out
    cat given > out/$BANGER_MATRIX_LETTER
    printf '<testsuite name="s"><testcase name="t" classname="c" time="1.5"/></testsuite>' > junit.xml
    echo "this is $BANGER_MATRIX_LETTER"
  - test $BANGER_MATRIX_LETTER != b
artifacts: ["out/**"]
junit: ["*.xml"]
"""


def test_the_verdict_of_three_jobs_and_all_that_they_left(box: Box, tmp_path: Path) -> None:
    before = box.traces()
    (tmp_path / "plan.yaml").write_text(PLAN)
    (tmp_path / "given").write_text("from outside")
    places = {"junit": "out.xml", "summary": "sum.md", "artifacts": "art", "logs": "logs"}
    done = run(
        box, tmp_path, "plan.yaml", "--json", *(word for pair in places.items() for word in _option(*pair))
    )
    ended = time.time()
    assert done.returncode == 1, done.stderr
    told = json.loads(done.stdout)
    assert [job["verdict"] for job in told["jobs"]] == ["passed", "failed", "passed"]
    assert told["jobs"][1]["reason"] == "run 2: test $BANGER_MATRIX_LETTER != b"
    assert ended - told["batch"]["ended_at"] < 3  # the interpreter's own end is in it
    _check_files(tmp_path)
    assert "  | this is b" in done.stderr.splitlines()
    assert f"banger batch logs {told['batch']['id']} 1" in done.stderr
    assert box.traces() == before


def run(box: Box, directory: Path, *words: str) -> subprocess.CompletedProcess[str]:
    argv = (sys.executable, "-c", BANGER, "batch", "run", *words)
    return subprocess.run(
        argv, env=box.environment, cwd=directory, capture_output=True, text=True, check=False, timeout=60
    )


def _option(name: str, place: str) -> tuple[str, str]:
    return f"--{name}", place


def _check_files(directory: Path) -> None:
    for index, letter in enumerate("abc"):
        assert (directory / f"art/job-00{index}/out/{letter}").read_text() == "from outside"
        assert f" O this is {letter}\n" in (directory / f"logs/job-00{index}.log").read_text()
    merged = ET.parse(directory / "out.xml").getroot()
    assert (merged.get("tests"), merged.get("failures"), merged.get("errors")) == ("4", "1", "0")
    names = [case.get("name") for case in merged.iter("testcase")]
    assert names == ["t [letter=a]", "t [letter=b]", "letter=b", "t [letter=c]"]
    assert "1 of 3 failed" in (directory / "sum.md").read_text()
