"""Which apt sources an image is built from, and what is told of a failure."""

from __future__ import annotations

from banger.images.apt import complaints, source_lines

KNOWN = """\
Debian|bookworm|bookworm|main|http://mirror/debian/
Debian|bookworm-updates|bookworm-updates|main|http://mirror/debian/
Debian|bookworm-security|oldstable-security|main|http://mirror/security/
Debian|bookworm|bookworm|contrib|http://mirror/debian/
Debian|bookworm-backports|bookworm-backports|main|http://mirror/debian/
Docker|bookworm|bookworm|stable|https://elsewhere/debian/
Vendor|nodistro|nodistro|main|https://elsewhere/node/
"""
LISTS_NEVER_FETCHED = """\
$(ORIGIN)|$(CODENAME)|bookworm|main|http://mirror/debian/
$(ORIGIN)|$(CODENAME)|bookworm|stable|https://elsewhere/debian/
"""


def test_the_host_s_debian_archives_are_used_and_nobody_else_s() -> None:
    assert source_lines(KNOWN, "bookworm", "bookworm") == (
        "deb http://mirror/debian/ bookworm main",
        "deb http://mirror/debian/ bookworm-updates main",
        "deb http://mirror/security/ bookworm-security main",
    )


def test_another_suite_comes_from_the_same_mirrors() -> None:
    assert source_lines(KNOWN, "bookworm", "trixie")[2] == "deb http://mirror/security/ trixie-security main"


def test_the_release_name_has_to_do_before_apt_has_fetched_its_lists() -> None:
    assert source_lines(LISTS_NEVER_FETCHED, "bookworm", "bookworm") == (
        "deb http://mirror/debian/ bookworm main",
    )


def test_without_a_debian_source_there_is_none() -> None:
    assert source_lines("Vendor|nodistro|nodistro|main|https://elsewhere/\n", "bookworm", "bookworm") == ()


def test_of_a_failure_only_apts_own_complaints_are_told() -> None:
    said = """\
I: running apt-get update...
Reading package lists...
E: Unable to locate package no-such-package
E: apt download failed: E: apt-get --yes -oDir::Log=/dev/null install no-such-package failed
I: main() received signal PIPE: waiting for setup...
E: mmdebstrap failed to run
"""
    assert complaints(said) == "E: Unable to locate package no-such-package"
