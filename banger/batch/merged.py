"""One JUnit file of a batch: what its guests wrote, and a word for every job that wrote nothing.

Whatever the guests did, the file says of each job how it ended: readers of it decide by failures and errors,
and a job that failed without a failing test would be green to them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, NamedTuple
from xml.sax.saxutils import quoteattr

from junitparser import Attr, Error, Failure, Skipped, SystemErr, SystemOut, TestCase, TestSuite

from banger.batch.junit import Case, Outcome, Suite, add_tests, counts, read_junit_file
from banger.batch.state import BatchInfo, JobState, Tests, Verdict
from banger.batch.verdict import describe, took_s
from banger.contracts.errors import InvalidInputError

MAX_MERGED_BYTES = 256 << 20
_MAX_LOG = 32 * 1024
_HEAD_BYTES = 512
_OUTCOMES: dict[Verdict | None, Outcome] = {
    Verdict.PASSED: "passed",
    Verdict.FAILED: "failure",
    Verdict.TIMED_OUT: "error",
    Verdict.INFRA_ERROR: "error",
    Verdict.CANCELLED: "skipped",
    None: "skipped",
}
_KINDS = {Verdict.TIMED_OUT: "timed_out", Verdict.INFRA_ERROR: "infra_error", Verdict.FAILED: "exit_code"}
_COLOURS = re.compile(r"\x1b\[[0-9:;]*m")
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class JobFiles(NamedTuple):
    """A job, the JUnit files that were fetched of it, and the last lines of its log."""

    job: JobState
    junit: tuple[Path, ...] = ()
    log_tail: str = ""


class Merged(NamedTuple):
    """What a merged file says in all, and which of the guests' files are not in it and why."""

    tests: Tests
    complaints: tuple[str, ...]


def merge(batch: BatchInfo, jobs: Iterable[JobFiles], into: Path) -> Merged:
    """Write the one JUnit file of a batch; it is there whole, or as it was before.

    Jobs are taken one after the other: the files of one are in memory at a time. OSError when the file
    cannot be written.
    """
    scratch = into.with_name(f".{into.name}.new")
    tests, complaints = Tests(), []
    try:
        with scratch.open("wb") as file:
            file.write(_head(batch, tests))
            for files in jobs:
                room = file.tell() < MAX_MERGED_BYTES
                suites, complained = _suites(batch, files if room else files._replace(junit=()))
                if files.junit and not room:
                    complained = ["its files are left out: the merged file is too large"]
                for suite in suites:
                    tests = add_tests(tests, counts([suite]))
                    file.write(_element(batch, files.job, suite))
                complaints += [f"job {files.job.index}: {complaint}" for complaint in complained]
            file.write(b"</testsuites>\n")
            _write_head(file, batch, tests)
        scratch.replace(into)
    finally:
        scratch.unlink(missing_ok=True)
    return Merged(tests, tuple(complaints))


def _head(batch: BatchInfo, tests: Tests) -> bytes:
    """Return the beginning of the file, of one length whatever the counts are: they are known at the end."""
    numbers = f'tests="{tests.tests}" failures="{tests.failures}" errors="{tests.errors}"'
    head = f'<?xml version="1.0" encoding="utf-8"?>\n<testsuites name={quoteattr(batch.name)} {numbers}'
    return head.encode().ljust(_HEAD_BYTES - 2) + b">\n"


def _write_head(file: IO[bytes], batch: BatchInfo, tests: Tests) -> None:
    file.seek(0)
    file.write(_head(batch, tests))


def _suites(batch: BatchInfo, files: JobFiles) -> tuple[list[Suite], list[str]]:
    """Return what a job's files say, with a suite of ours where they do not say how the job ended."""
    suites: list[Suite] = []
    complaints = []
    for path in files.junit:
        try:
            suites += read_junit_file(path)
        except InvalidInputError as error:
            complaints.append(f"{path.name}: {error.brief}")
        except OSError as error:
            complaints.append(f"{path.name}: it cannot be read: {error.strerror}")
    if complaints or not suites or not _say_how_it_ended(suites, files.job):
        suites.append(Suite(batch.name, (_case_of(batch, files, complaints),)))
    return suites, complaints


def _say_how_it_ended(suites: Iterable[Suite], job: JobState) -> bool:
    if job.verdict is Verdict.PASSED:
        return True
    return job.verdict is Verdict.FAILED and any(
        case.outcome in ("failure", "error") for suite in suites for case in suite.cases
    )


def _case_of(batch: BatchInfo, files: JobFiles, complaints: list[str]) -> Case:
    """Return a job as a test of its own."""
    job = files.job
    outcome = _OUTCOMES[job.verdict]
    log = _COLOURS.sub("", files.log_tail)[-_MAX_LOG:]
    return Case(
        name=job.title,
        classname=batch.name,
        time_s=took_s(job) or 0.0,
        outcome=outcome,
        message="" if outcome == "passed" else describe(job),
        kind=_KINDS.get(job.verdict, "") if job.verdict else "",
        text=log if outcome in ("failure", "error") else "",
        system_err="\n".join((*complaints, *job.notes)),
    )


class _TestCase(TestCase):
    file = Attr()
    line = Attr()


def _element(batch: BatchInfo, job: JobState, suite: Suite) -> bytes:
    """Return a suite as XML, with the job that it is of in its name and its properties."""
    element = TestSuite(_xml(job.title if suite.name in ("", batch.name) else f"{job.title}: {suite.name}"))
    if job.host:
        element.hostname = job.host
    if job.began_at is not None:
        element.timestamp = f"{datetime.fromtimestamp(job.began_at, UTC):%Y-%m-%dT%H:%M:%S}"
    for name, value in (*_properties(batch, job), *suite.properties):
        element.add_property(_xml(name), _xml(value))
    element.add_testcases([_case_element(case, job) for case in suite.cases])
    for output in _outputs(suite):
        element.append(output)
    return bytes(element.tostring()) + b"\n"


def _properties(batch: BatchInfo, job: JobState) -> Iterator[tuple[str, str]]:
    yield "batch", batch.id
    yield "job", str(job.index)
    yield "title", job.title
    yield "host", job.host or ""
    yield "attempt", str(len(job.attempts))
    yield from ((f"matrix.{axis}", value) for axis, value in job.matrix.items())


def _case_element(case: Case, job: JobState) -> TestCase:
    """Return a test as XML; to its readers, tests of one name are one test, so matrix values go with it."""
    values = " ".join(f"{axis}={value}" for axis, value in job.matrix.items())
    apart = f" [{values}]" if values and case.name != job.title else ""
    element = _TestCase(_xml(case.name + apart), _xml(case.classname), case.time_s)
    if case.file:
        element.file = _xml(case.file)
    if case.line.isdecimal():
        element.line = case.line
    _append_result(element, case)
    return element


def _append_result(element: TestCase, case: Case) -> None:
    if case.outcome != "passed":
        kinds = {"failure": Failure, "error": Error, "skipped": Skipped}
        result = kinds[case.outcome](_xml(case.message), _xml(case.kind))
        result.text = _xml(case.text)
        element.append(result)
    for output in _outputs(case):
        element.append(output)


def _outputs(of: Suite | Case) -> Iterator[SystemOut | SystemErr]:
    if of.system_out:
        yield SystemOut(_xml(of.system_out))
    if of.system_err:
        yield SystemErr(_xml(of.system_err))


def _xml(text: str) -> str:
    """Return the text without what XML cannot say."""
    return _NOT_XML.sub("\ufffd", text)
