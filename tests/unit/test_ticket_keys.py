"""The host's key pair: made, replaced, and told apart from what is damaged."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from banger.contracts.errors import BangerError, InvalidInputError, NotFoundError
from banger.contracts.names import HostPaths
from banger.contracts.policy import Policy
from banger.contracts.tickets import public_half
from banger.ticket_keys import ensure, private_key, read_policy, require_pair, rotate

US = (os.getuid(), os.getgid())


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HostPaths:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "fchown", lambda *_: None)
    return HostPaths(tmp_path, tmp_path)


@pytest.fixture
def policy(paths: HostPaths) -> Path:
    """Return the file of a policy that trusts the host's pair."""
    file = paths.state / "policy.json"
    limits = Policy(host="h1", state_dir=paths.state, run_dir=paths.run)
    keys = ensure(paths, file, *US)
    file.write_text(limits.model_copy(update={"ticket_keys": keys}).model_dump_json())
    return file


def test_a_pair_that_is_whole_is_kept(paths: HostPaths, policy: Path) -> None:
    assert ensure(paths, policy, *US) == read_policy(policy).ticket_keys


def test_a_lost_key_is_replaced_by_rotating(paths: HostPaths, policy: Path) -> None:
    paths.ticket_key.unlink()
    with pytest.raises(BangerError, match="cannot be read"):
        require_pair(paths, policy, US[0])
    *_, new = rotate(paths, policy, *US)
    assert new.public == public_half(private_key(paths))
    assert read_policy(policy).ticket_keys[-1] == new
    assert len(read_policy(policy).ticket_keys) == 2


def test_a_key_that_root_does_not_trust_is_told(paths: HostPaths, policy: Path) -> None:
    other = HostPaths(paths.state / "other", paths.run)
    other.state.mkdir()
    ensure(other, other.state / "policy.json", *US)
    with pytest.raises(BangerError, match="does not trust"):
        require_pair(other, policy, US[0])
    with pytest.raises(BangerError, match="not the worker's"):
        require_pair(paths, policy, US[0] + 1)


@pytest.mark.parametrize("text", ["", "{ not JSON", "[]", '{"host": "h1"}', '{"ticket_keys": 7}'])
def test_a_damaged_policy_is_named_and_a_new_pair_made_for_the_next(
    paths: HostPaths, policy: Path, text: str
) -> None:
    before = private_key(paths)
    policy.write_text(text)
    for call in (lambda: read_policy(policy), lambda: rotate(paths, policy, *US)):
        with pytest.raises(InvalidInputError, match="policy is damaged") as caught:
            call()
        where, why, *_ = caught.value.details.splitlines()
        assert where == str(policy)
        assert not why.startswith(":")
        assert "farm up" in caught.value.resolution
    (key,) = ensure(paths, policy, *US)
    assert key.public == public_half(private_key(paths)) != public_half(before)


def test_a_host_without_a_policy_says_what_writes_it(paths: HostPaths) -> None:
    with pytest.raises(NotFoundError, match="no policy yet"):
        read_policy(paths.state / "policy.json")
