"""When the worker's user cannot reach the code, what gets covered?"""

from __future__ import annotations

from pathlib import Path

import pytest

from banger.embedded.view import Cover, covered_argv, may_enter, plan_covers


def all_but(*closed: str):
    return lambda path: str(path) not in closed


@pytest.mark.parametrize(
    ("mode", "owner", "group", "enters"),
    [
        (0o40755, 0, 0, True),
        (0o40700, 0, 0, False),
        (0o40711, 0, 0, True),
        (0o40750, 0, 995, True),
        (0o40750, 0, 0, False),
        (0o40700, 999, 0, True),
        (0o40077, 999, 995, False),  # the owner's bits decide for the owner, not the kinder ones
    ],
)
def test_a_directory_is_entered_as_the_kernel_would(mode, owner, group, enters):
    assert may_enter(mode, owner, group, uid=999, gid=995) is enters


def test_nothing_is_covered_where_all_is_open():
    assert plan_covers([Path("/srv/banger")], [Path("/var/lib/banger")], all_but()) == ()


def test_the_topmost_closed_ancestor_is_covered_once_for_all_that_lies_in_it():
    covers = plan_covers(
        [Path("/root/a/banger"), Path("/root/a/.venv"), Path("/usr")],
        [Path("/var/lib/banger")],
        all_but("/root", "/root/a"),
    )
    assert covers == (Cover(Path("/root"), (Path("/root/a/.venv"), Path("/root/a/banger")), ()),)


def test_what_lies_in_a_shown_directory_is_not_shown_twice():
    (cover,) = plan_covers([Path("/root/a"), Path("/root/a/.venv")], [], all_but("/root"))
    assert cover.read_only == (Path("/root/a"),)


def test_state_beneath_a_covered_directory_stays_visible_and_writable():
    (cover,) = plan_covers([Path("/root/code")], [Path("/root/state")], all_but("/root"))
    assert cover.writable == (Path("/root/state"),)


def test_argv_is_left_alone_where_nothing_is_covered():
    assert covered_argv(("/bin/true",), (), Path("/run/view")) == ("/bin/true",)
