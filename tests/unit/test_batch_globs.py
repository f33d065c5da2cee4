"""Globs over a guest's names: what they mean, and that no name makes them slow."""

from __future__ import annotations

import time

import pytest

from banger.batch.globs import MAX_PATTERNS, Globs, check_glob
from banger.contracts.errors import InvalidInputError


@pytest.mark.parametrize(
    ("pattern", "name", "meant"),
    [
        ("*.xml", "a.xml", True),
        ("*.xml", "./a.xml", True),
        ("./*.xml", "a.xml", True),
        ("*.xml", "b/a.xml", False),
        ("*.xml", ".hidden.xml", True),
        ("**/*.xml", "a.xml", True),
        ("**/*.xml", "a/b/c.xml", True),
        ("a/**/c.xml", "a/c.xml", True),
        ("a/**/c.xml", "a/b/b/c.xml", True),
        ("a/**/c.xml", "b/c.xml", False),
        ("a/**/b/**/c", "a/x/b/y/z/c", True),
        ("a/**", "a/b/c", True),
        ("**", "a/b/c", True),
        ("**/**/*", "a", True),
        ("*", "a", True),
        ("*", "a/b", False),
        ("dist", "dist/a/b.whl", True),
        ("dist/", "dist/b.whl", True),
        ("dist", "dist", True),
        ("dist", "distant/a", False),
        ("build-*/", "build-1/a/b", True),
        ("build-*", "build-1/a", False),
        ("t[ab]?.log", "tax.log", True),
        ("t[!ab]x", "tax", False),
        ("a**b", "axxb", True),
        ("a.b", "axb", False),
        ("line*", "line\nbreak", True),
    ],
)
def test_what_a_pattern_means(pattern: str, name: str, meant: bool) -> None:
    assert Globs([pattern]).matches(name) is meant


@pytest.mark.parametrize("pattern", ["", ".", "/", "/etc/*", "../x", "a/../../b", "a\nb", "a\0b", "x" * 2000])
def test_a_pattern_that_leads_out_or_is_none_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidInputError):
        check_glob(pattern)


def test_too_many_patterns_are_refused() -> None:
    with pytest.raises(InvalidInputError):
        Globs(["a"] * (MAX_PATTERNS + 1))


def test_each_name_is_selected_once_and_in_order() -> None:
    assert Globs(["*.xml", "b*"]).select(["b.xml", "c", "a.xml", "b.xml"]) == ("b.xml", "a.xml")


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("**/a/" * 100 + "b", "a/" * 2000 + "c"),
        ("a*" * 400 + "b", "a" * 4000),
        ("*a" * 400, "a" * 4000 + "b"),
    ],
)
def test_no_name_makes_matching_slow(pattern: str, name: str) -> None:
    began = time.process_time()
    assert not Globs([pattern]).matches(name)
    assert time.process_time() - began < 2
