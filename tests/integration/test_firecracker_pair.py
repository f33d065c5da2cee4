"""What doctor says of Firecracker and its jailer is what root would say of them at a launch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from firecracker_pair import installed_pair

from banger import firecracker_pair, shell
from banger.contracts.policy import Policy
from banger.firecracker_pair import Pair, look
from root_worker.vmm.firecracker import problem

pytestmark = pytest.mark.integration


@pytest.fixture
def pair() -> Iterator[dict[str, Path]]:
    with installed_pair() as made:
        yield made


def both(pair: dict[str, Path]) -> tuple[Pair, str]:
    policy = Policy(host="here", state_dir=Path("/s"), run_dir=Path("/r"), **pair)
    return look(**pair), problem(policy)


def test_a_pair_of_one_version_that_is_roots_alone_can_be_used(pair):
    facts, refused = both(pair)
    assert (facts.version, facts.problem, refused) == ("1.16.1", "", "")


def test_one_that_is_not_there_is_said(pair):
    pair["jailer"].unlink()
    facts, refused = both(pair)
    assert facts.there
    assert "jailer" in facts.problem
    assert "jailer" in refused


def test_none_of_both_is_no_pair_at_all():
    facts, refused = both({"firecracker": Path("/nowhere/firecracker"), "jailer": Path("/nowhere/jailer")})
    assert not facts.there
    assert facts.problem
    assert refused


@pytest.mark.parametrize("name", ["firecracker", "jailer"])
def test_a_program_that_others_may_write_is_used_by_nobody(pair, name):
    pair[name].chmod(0o775)
    facts, refused = both(pair)
    assert "not what root alone can write" in facts.problem
    assert "not what root alone can write" in refused


def test_a_directory_that_others_may_write_is_no_better(pair):
    pair["jailer"].parent.chmod(0o777)
    facts, refused = both(pair)
    assert "not what root alone can write" in facts.problem
    assert "not what root alone can write" in refused


def test_two_versions_are_no_pair(pair):
    jailer = pair["jailer"]
    jailer.write_text(jailer.read_text().replace("1.16.1", "1.15.0"))
    said = "Firecracker is of version 1.16.1, its jailer of 1.15.0"
    facts, refused = both(pair)
    assert (facts.problem, refused) == (said, said)


def test_a_pair_is_asked_again_when_it_is_another(pair, monkeypatch):
    asked = []
    monkeypatch.setattr(
        firecracker_pair, "run", lambda argv, **how: asked.append(argv[0]) or shell.run(argv, **how)
    )
    assert {look(**pair).version for _ in range(3)} == {"1.16.1"}
    assert asked == [str(pair["firecracker"]), str(pair["jailer"])]
    for program in pair.values():
        program.write_text(program.read_text().replace("1.16.1", "1.15.0"))
    assert look(**pair).problem == "Firecracker is of version 1.15.0; 1.16 is needed"
    for program in pair.values():
        program.write_text("#!/bin/sh\nexit 7\n")
    assert look(**pair).problem == "it cannot be asked for its version: firecracker ended with 7"
    assert len(asked) == 5
