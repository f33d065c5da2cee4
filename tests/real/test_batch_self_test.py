"""The example: this project's own unit tests in four Debian guests, as the action for GitHub runs them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ci_scripts import ROOT, github_script, github_variables
from defusedxml.ElementTree import parse
from farm_box import BANGER, Box, farm_box, without_flower
from netns import inside

from banger.batch.load import load_plan
from banger.batch.shards import times_of_files
from banger.images.catalogue import Catalogue

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]

PLAN = "examples/self-test/plan.yaml"
RUN_S = 800.0
PYTHONS = {"bookworm": (3, 11), "trixie": (3, 13)}
FAILED = "test_example_is_not_told_to_fail"


@pytest.fixture
def python_box() -> Iterator[Box]:
    """A farm with an image that has the Python of the environment that goes into the guests."""
    with farm_box("debian-python", change=without_flower) as box, inside(box.network):
        suite = Catalogue(box.paths).resolve("debian-python").suite
        if PYTHONS.get(suite) != sys.version_info[:2] or not (ROOT / ".venv/lib").is_dir():
            pytest.skip(f"the packages of .venv are not for the Python of {suite}")
        yield box


def test_the_verdict_and_all_that_it_comes_with_is_right(python_box: Box, tmp_path: Path) -> None:
    box, before = python_box, python_box.traces()
    done = run_step(
        box,
        tmp_path,
        plan=PLAN,
        directory=".",
        junit=f"{tmp_path}/junit.xml",
        summary=f"{tmp_path}/summary.md",
        artifacts=f"{tmp_path}/artifacts",
    )
    assert done.returncode == 1, done.stdout + done.stderr

    outputs = dict(line.split("=") for line in (tmp_path / "outputs").read_text().splitlines())
    counts = {"total": "4", "passed": "3", "failed": "1"}
    assert outputs.items() >= ({"verdict": "failed"} | counts).items(), done.stdout
    assert "::error title=self-test%3A shard" in done.stdout

    files = load_plan(ROOT / PLAN).split.files
    junit = parse(tmp_path / "junit.xml").getroot()
    cases = [*junit.iter("testcase")]
    assert [case.get("name") for case in cases if case.find("failure") is not None] == [FAILED]
    assert (junit.get("failures"), junit.get("errors")) == ("1", "0")
    assert int(junit.get("tests")) == len(cases) > 250
    assert {Path(file).stem for file in files} == {case.get("classname").split(".")[-1] for case in cases}
    jobs = [one.get("value") for one in junit.iter("property") if one.get("name") == "job"]
    assert sorted(jobs) == ["0", "1", "2", "3"]

    for job in range(4):
        reports = tmp_path / f"artifacts/job-00{job}/reports"
        assert (reports / "guest.txt").read_text().startswith("Python 3.")
        assert (reports / "junit.xml").is_file()

    summary = (tmp_path / "summary.md").read_text()
    assert "1 of 4 failed" in summary
    assert FAILED in summary.replace("\\_", "_")
    assert (tmp_path / "step.md").read_text() == summary

    # The next one knows how long each file took.
    assert times_of_files(box.farm.batches.store.times("self-test"), files).keys() == {*files}
    assert box.traces() == before


def run_step(box: Box, scratch: Path, **inputs: str) -> subprocess.CompletedProcess[str]:
    """Run the action's step from the project's directory, to its end."""
    banger = scratch / "bin/banger"
    banger.parent.mkdir()
    banger.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{BANGER}" "$@"\n')
    banger.chmod(0o755)
    github = {
        "GITHUB_ACTIONS": "true",
        "GITHUB_OUTPUT": str(scratch / "outputs"),
        "GITHUB_STEP_SUMMARY": str(scratch / "step.md"),
    }
    known = box.environment
    path = {"PATH": f"{banger.parent}:{known['PATH']}"}
    return subprocess.run(
        ("bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", github_script()),
        env=known | path | github | github_variables(**inputs),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=RUN_S,
    )
