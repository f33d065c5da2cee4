"""JUnit files as guests write them, read into plain values: bounded, or refused with one line of why.

A guest's file is a stranger's: entities and DTDs are refused, and depth, elements, the length of a tag and of
every text are bounded before anything is built of them. What a reader of results has no use for is dropped.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NamedTuple
from xml.etree.ElementTree import ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from banger.batch.state import Tests
from banger.contracts.errors import InvalidInputError

MAX_FILE_BYTES = 16 << 20
MAX_DURATIONS = 5_000
MAX_FAILED_NAMES = 10
_MAX_DEPTH = 64
_MAX_ELEMENTS = 200_000
_MAX_TAG_BYTES = 1 << 20
_MAX_TEXT = 64 * 1024
_MAX_NAME = 512
_MAX_PROPERTIES = 100
_MAX_FAILED_NAME = 160
_MAX_CASE_S = 1e6
_PIECE_BYTES = 256 * 1024

Outcome = Literal["passed", "failure", "error", "skipped"]
_SEVERITY: dict[str, Outcome] = {"error": "error", "failure": "failure", "skipped": "skipped"}
_NOT_RUN = ("skipped", "disabled", "notrun", "suppressed")  # as googletest and others say it, in an attribute


class Case(NamedTuple):
    """A test: ``message``, ``kind`` and ``text`` say how it failed, errored, or why it was skipped."""

    name: str
    classname: str = ""
    file: str = ""
    line: str = ""
    time_s: float = 0.0
    outcome: Outcome = "passed"
    message: str = ""
    kind: str = ""
    text: str = ""
    system_out: str = ""
    system_err: str = ""


class Suite(NamedTuple):
    """A test suite of a guest's file; suites in suites are told one after the other."""

    name: str
    cases: tuple[Case, ...] = ()
    properties: tuple[tuple[str, str], ...] = ()
    timestamp: str = ""
    system_out: str = ""
    system_err: str = ""


def read_junit(data: bytes) -> tuple[Suite, ...]:
    """Return the test suites of a JUnit file, those without any test left out.

    InvalidInputError, of one line, when it is not XML, not JUnit, too large, or made to hurt its reader.
    """
    if len(data) > MAX_FILE_BYTES:
        raise InvalidInputError(f"the file is larger than {MAX_FILE_BYTES >> 20} MiB")
    reader = _Reader()
    parser = DefusedXMLParser(target=reader, forbid_dtd=True)
    try:
        _parse(parser, data)
    except DefusedXmlException as error:
        raise InvalidInputError("the file declares a document type or entities, which is refused") from error
    except _RefusedError as error:
        raise InvalidInputError(f"the file is no JUnit that can be taken: {error}") from error
    except (ParseError, ValueError, LookupError, OverflowError) as error:
        raise InvalidInputError(f"the file is not valid XML: {_one_line(str(error))}") from error
    return tuple(reader.suites)


def _parse(parser: DefusedXMLParser, data: bytes) -> None:
    for at in range(0, len(data), _PIECE_BYTES):
        parser.feed(data[at : at + _PIECE_BYTES])
        # Text is handed on as it comes. What waits is one tag, whose attributes are built all at once.
        if at - parser.parser.CurrentByteIndex > _MAX_TAG_BYTES:
            raise _RefusedError(f"it has a tag of more than {_MAX_TAG_BYTES >> 20} MiB")
    parser.close()


def read_junit_file(path: Path) -> tuple[Suite, ...]:
    """Return what ``read_junit`` makes of a regular file; OSError when it cannot be read."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        return read_junit(file.read(MAX_FILE_BYTES + 1))


def counts(suites: Iterable[Suite]) -> Tests:
    """Return how many tests there are of each outcome, and the names of the first that did not pass."""
    found: dict[Outcome, int] = {"passed": 0, "failure": 0, "error": 0, "skipped": 0}
    failed: list[str] = []
    for case in _cases(suites):
        found[case.outcome] += 1
        if case.outcome in ("failure", "error") and len(failed) < MAX_FAILED_NAMES:
            name = f"{case.classname}::{case.name}" if case.classname else case.name
            failed.append(_one_line(name, _MAX_FAILED_NAME))
    return Tests(
        tests=sum(found.values()),
        failures=found["failure"],
        errors=found["error"],
        skipped=found["skipped"],
        failed=tuple(failed),
    )


def add_tests(first: Tests, second: Tests) -> Tests:
    """Return the counts of two together."""
    return Tests(
        tests=first.tests + second.tests,
        failures=first.failures + second.failures,
        errors=first.errors + second.errors,
        skipped=first.skipped + second.skipped,
        failed=(first.failed + second.failed)[:MAX_FAILED_NAMES],
    )


def durations(suites: Iterable[Suite]) -> dict[str, float]:
    """Return the seconds that each test file took; where a test names no file, its class stands for it.

    The first MAX_DURATIONS files count.
    """
    took_s: dict[str, float] = {}
    for case in _cases(suites):
        key = case.file or case.classname
        if key in took_s or (key and len(took_s) < MAX_DURATIONS):
            took_s[key] = round(took_s.get(key, 0.0) + case.time_s, 6)
    return took_s


def _cases(suites: Iterable[Suite]) -> Iterable[Case]:
    return (case for suite in suites for case in suite.cases)


class _RefusedError(Exception):
    """What the file holds is XML and more than a JUnit file needs."""


class _Text:
    """Text that comes in pieces, of which the first are kept."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._length = 0

    def add(self, piece: str) -> None:
        if self._length < _MAX_TEXT:
            self._pieces.append(piece[: _MAX_TEXT - self._length])
            if self._length + len(piece) > _MAX_TEXT:
                self._pieces.append("\n(cut)")
        self._length += len(piece)

    def __str__(self) -> str:
        return "".join(self._pieces)


class _OpenSuite:
    """A suite, or a case, whose end has not come yet."""

    def __init__(self, attributes: dict[str, str]) -> None:
        self.attributes = attributes
        self.cases: list[Case] = []
        self.properties: list[tuple[str, str]] = []
        self.texts: dict[str, _Text] = {}

    def text_of(self, tag: str) -> str:
        return str(self.texts.get(tag, "")).strip("\r\n")

    def name(self, attribute: str) -> str:
        return _one_line(self.attributes.get(attribute, ""), _MAX_NAME)


class _Reader:
    """The target of an XML parser: suites, cases, and what stands directly in them."""

    def __init__(self) -> None:
        self.suites: list[Suite] = []
        self._path: list[str] = []
        self._elements = 0
        self._open: list[_OpenSuite] = []
        self._case: _OpenSuite | None = None
        self._results: dict[str, dict[str, str]] = {}
        self._text: _Text | None = None

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        tag = tag.rpartition("}")[2]
        self._elements += 1
        if not self._path and tag not in ("testsuites", "testsuite"):
            raise _RefusedError(f"its root is <{_one_line(tag, 40)}>")
        if len(self._path) >= _MAX_DEPTH or self._elements > _MAX_ELEMENTS:
            raise _RefusedError(f"more than {_MAX_DEPTH} levels or {_MAX_ELEMENTS} elements")
        inside = self._path[-1] if self._path else ""
        self._path.append(tag)
        if tag == "testsuite":
            self._open.append(_OpenSuite(attributes))
        elif tag == "testcase" and self._open and self._case is None:
            self._case, self._results = _OpenSuite(attributes), {}
        elif inside == "testcase" and tag in _SEVERITY and self._case is not None:
            self._results.setdefault(tag, attributes)
            self._begin_text(self._case, tag)
        elif tag in ("system-out", "system-err") and inside in ("testcase", "testsuite") and self._open:
            self._begin_text(self._case or self._open[-1], tag)
        elif tag == "property" and self._open and self._case is None:
            self._take_property(self._open[-1], attributes)

    def data(self, text: str) -> None:
        if self._text is not None:
            self._text.add(text)

    def end(self, tag: str) -> None:
        tag = self._path.pop()
        inside = self._path[-1] if self._path else ""
        if tag == "testsuite":
            self._take_suite(self._open.pop())
        elif tag == "testcase" and self._case is not None and inside != "testcase":
            self._open[-1].cases.append(_case(self._case, self._results))
            self._case = None
        if tag in ("system-out", "system-err", *_SEVERITY):
            self._text = None

    def close(self) -> None:
        """End, as an XML parser's target does."""

    def _begin_text(self, owner: _OpenSuite, tag: str) -> None:
        self._text = owner.texts.setdefault(tag, _Text())

    def _take_property(self, suite: _OpenSuite, attributes: dict[str, str]) -> None:
        if len(suite.properties) < _MAX_PROPERTIES:
            value = attributes.get("value", "")
            suite.properties.append((_one_line(attributes.get("name", ""), _MAX_NAME), value[:_MAX_TEXT]))

    def _take_suite(self, suite: _OpenSuite) -> None:
        out, err = suite.text_of("system-out"), suite.text_of("system-err")
        if not suite.cases:
            return
        name, timestamp = suite.name("name"), suite.name("timestamp")
        self.suites.append(Suite(name, tuple(suite.cases), tuple(suite.properties), timestamp, out, err))


def _case(case: _OpenSuite, results: dict[str, dict[str, str]]) -> Case:
    """Return a case; of several results the gravest is its outcome."""
    tag = next((tag for tag in _SEVERITY if tag in results), "")
    outcome: Outcome = _SEVERITY.get(tag, "passed")
    attributes = case.attributes
    if not tag and {attributes.get("status", "").lower(), attributes.get("result", "").lower()} & {*_NOT_RUN}:
        outcome = "skipped"
    said = results.get(tag, {})
    return Case(
        name=case.name("name"),
        classname=case.name("classname"),
        file=case.name("file"),
        line=attributes.get("line", "")[:12],
        time_s=_seconds(attributes.get("time", "")),
        outcome=outcome,
        message=said.get("message", "")[:_MAX_TEXT],
        kind=_one_line(said.get("type", ""), _MAX_NAME),
        text=case.text_of(tag),
        system_out=case.text_of("system-out"),
        system_err=case.text_of("system-err"),
    )


def _seconds(text: str) -> float:
    """Return a duration; 0 for what is none: some writers put commas into thousands, some guests put nan."""
    try:
        seconds = float(text[:40].replace(",", ""))
    except ValueError:
        return 0.0
    return seconds if math.isfinite(seconds) and 0 <= seconds <= _MAX_CASE_S else 0.0


def _one_line(text: str, limit: int = 200) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"
