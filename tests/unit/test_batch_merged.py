"""The merged JUnit file: every job is in it, as what it was, and every reader can read it."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import junitparser
import pytest

from banger.batch import merged
from banger.batch.junit import read_junit
from banger.batch.merged import JobFiles, Merged, merge
from banger.batch.state import Attempt, BatchInfo, JobState, Verdict

BATCH = BatchInfo(
    id="0123456789ab",
    name="tests",
    state="ended",
    image="debian",
    host="h1",
    total=4,
    created_at=1_795_880_000.0,
    deadline_at=1_795_890_000.0,
)
GOOD = b'<testsuite name="pytest"><testcase classname="t" name="a" time="1.5"/></testsuite>'
BAD = GOOD.replace(b"/></", b'><failure message="no"/></testcase></')


def job(verdict: Verdict | None, **more: object) -> JobState:
    fields = {
        "index": 2,
        "title": "python=3.12 3/4",
        "matrix": {"python": "3.12"},
        "state": "ended" if verdict else "running",
        "verdict": verdict,
        "host": "h1",
        "began_at": 1_795_880_000.0,
        "ended_at": 1_795_880_012.5,
    }
    return JobState.model_validate(fields | more)


class Box:
    """A directory of guests' files, and what they are merged to."""

    def __init__(self, place: Path) -> None:
        self.out = place / "out.xml"
        self._place = place
        self._made = 0

    def files(self, state: JobState, *contents: bytes, log: str = "") -> JobFiles:
        paths = []
        for content in contents:
            self._made += 1
            path = self._place / f"in-{self._made}.xml"
            path.write_bytes(content)
            paths.append(path)
        return JobFiles(state, tuple(paths), log)

    def merge(self, *files: JobFiles) -> tuple[Merged, ET.Element]:
        came = merge(BATCH, files, self.out)
        return came, ET.parse(self.out).getroot()


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def test_a_guests_suites_say_which_job_they_are_of(box: Box) -> None:
    attempts = (Attempt(number=1, vm="0" * 12, job="1" * 12, began_at=1.0),)
    came, root = box.merge(box.files(job(Verdict.PASSED, attempts=attempts), GOOD))
    (suite,) = root
    assert suite.get("name") == "python=3.12 3/4: pytest"
    assert (suite.get("hostname"), suite.get("timestamp")) == ("h1", "2026-11-28T15:33:20")
    assert {item.get("name"): item.get("value") for item in suite.iter("property")} == {
        "batch": "0123456789ab",
        "job": "2",
        "title": "python=3.12 3/4",
        "host": "h1",
        "attempt": "1",
        "matrix.python": "3.12",
    }
    (case,) = suite.iter("testcase")
    assert (case.get("classname"), case.get("name"), case.get("time")) == ("t", "a [python=3.12]", "1.5")
    assert (came.tests.tests, came.complaints) == (1, ())


def test_the_root_has_the_counts_of_all(box: Box) -> None:
    came, root = box.merge(
        box.files(job(Verdict.PASSED), GOOD, GOOD),
        box.files(job(Verdict.FAILED), BAD),
        box.files(job(Verdict.INFRA_ERROR)),
    )
    assert {name: root.get(name) for name in ("name", "tests", "failures", "errors")} == {
        "name": "tests",
        "tests": "4",
        "failures": "1",
        "errors": "1",
    }
    assert came.tests.failed == ("t::a", "tests::python=3.12 3/4")


@pytest.mark.parametrize(
    ("state", "tag", "message"),
    [
        (job(Verdict.PASSED), None, None),
        (
            job(Verdict.FAILED, exit_code=2, reason="run 1: make"),
            "failure",
            "failed: exit code 2 (run 1: make)",
        ),
        (job(Verdict.TIMED_OUT), "error", "timed out"),
        (
            job(Verdict.INFRA_ERROR, stage="launch", reason="no KVM"),
            "error",
            "infrastructure error: launch: no KVM",
        ),
        (job(Verdict.CANCELLED, reason="fail_fast"), "skipped", "cancelled: fail_fast"),
        (job(None), "skipped", "running"),
    ],
)
def test_a_job_without_files_is_a_test(
    box: Box, state: JobState, tag: str | None, message: str | None
) -> None:
    _, root = box.merge(box.files(state, log="last\n\x1b[31mwords\x1b[0m \x00\x1b"))
    (case,) = root.iter("testcase")
    assert (case.get("classname"), case.get("name")) == ("tests", "python=3.12 3/4")
    assert float(case.get("time", "")) == 12.5
    results = list(case)
    assert [result.tag for result in results] == ([tag] if tag else [])
    if tag:
        assert results[0].get("message") == message
        assert (results[0].text or "") == ("last\nwords ��" if tag != "skipped" else "")


@pytest.mark.parametrize(
    ("state", "content", "own"),
    [
        (job(Verdict.PASSED), GOOD, False),
        (job(Verdict.PASSED), BAD, False),
        (job(Verdict.FAILED), BAD, False),
        (job(Verdict.FAILED), GOOD, True),
        (job(Verdict.TIMED_OUT), BAD, True),
        (job(Verdict.CANCELLED), GOOD, True),
        (job(Verdict.PASSED), b"<testsuites/>", True),
    ],
)
def test_files_that_do_not_say_how_the_job_ended_get_a_test_that_does(
    box: Box, state: JobState, content: bytes, own: bool
) -> None:
    _, root = box.merge(box.files(state, content))
    assert [case.get("classname") for case in root.iter("testcase")].count("tests") == own


def test_a_file_that_cannot_be_read_is_said_and_fails_nothing(box: Box, tmp_path: Path) -> None:
    files = box.files(job(Verdict.PASSED), b"<html/>", GOOD)
    came, root = box.merge(files._replace(junit=(*files.junit, tmp_path / "gone.xml")))
    assert (came.tests.failures, came.tests.errors, came.tests.tests) == (0, 0, 2)
    said = "".join(element.text or "" for element in root.iter("system-err"))
    assert said.splitlines() == [
        "in-1.xml: the file is no JUnit that can be taken: its root is <html>",
        "gone.xml: it cannot be read: No such file or directory",
    ]
    assert len(came.complaints) == 2
    assert came.complaints[0].startswith("job 2: in-1.xml")


def test_what_xml_cannot_say_is_replaced(box: Box) -> None:
    state = job(Verdict.FAILED, title="odd \x01 \ud800 <&>\"'", matrix={"a": "\x02"}, reason="\x03")
    _, root = box.merge(box.files(state, log="]]> & < \x0b \ufffe \U0001f600 \udcff"))
    (case,) = root.iter("testcase")
    assert case.get("name") == "odd � � <&>\"'"
    assert case[0].text == "]]> & < � � \U0001f600 �"


def test_the_log_is_bounded_to_its_end(box: Box) -> None:
    _, root = box.merge(box.files(job(Verdict.FAILED), log="x" * 100_000 + "end"))
    text = next(root.iter("failure")).text or ""
    assert len(text) == 32 * 1024
    assert text.endswith("end")


def test_other_readers_read_it(box: Box) -> None:
    box.merge(box.files(job(Verdict.FAILED), GOOD, BAD), box.files(job(Verdict.INFRA_ERROR)))
    root = junitparser.JUnitXml.fromfile(str(box.out))
    assert [(suite.tests, suite.failures, suite.errors) for suite in root] == [
        (1, 0, 0),
        (1, 1, 0),
        (1, 0, 1),
    ]
    assert [len(suite.cases) for suite in read_junit(box.out.read_bytes())] == [1, 1, 1]


def test_a_merged_file_has_a_limit_and_every_job_is_in_it(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merged, "MAX_MERGED_BYTES", 3000)
    came, root = box.merge(*(box.files(job(Verdict.FAILED, index=n), BAD) for n in range(20)))
    jobs = [item.get("value") for item in root.iter("property") if item.get("name") == "job"]
    assert jobs == [str(n) for n in range(20)]
    assert came.tests.failures == 20
    assert came.complaints[-1] == "job 19: its files are left out: the merged file is too large"


def test_a_file_of_before_stays_until_the_new_one_is_whole(box: Box) -> None:
    box.out.write_text("before")

    def jobs() -> object:
        yield box.files(job(Verdict.PASSED), GOOD)
        raise RuntimeError("the farm is gone")

    with pytest.raises(RuntimeError):
        merge(BATCH, jobs(), box.out)  # type: ignore[arg-type]
    assert box.out.read_text() == "before"
    assert sorted(path.name for path in box.out.parent.iterdir()) == ["in-1.xml", "out.xml"]
