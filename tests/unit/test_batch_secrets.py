"""Secrets are read where the batch is submitted, and no complaint tells one."""

from __future__ import annotations

from pathlib import Path

import pytest
from batch_facts import plan

from banger.batch.plan import Plan
from banger.batch.secrets import MAX_SECRET_BYTES, read_secrets
from banger.contracts.errors import InvalidInputError


def wanting(**secrets: str) -> Plan:
    """A plan with these secrets: ``env:NAME`` or ``file:PATH``."""
    refs = {name: dict([ref.split(":", 1)]) for name, ref in secrets.items()}
    return plan(secrets=refs)


def test_secrets_come_from_the_environment_and_from_files(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "key").write_bytes(b"line one\nline two\n\n")
    wanted = wanting(TOKEN="env:CI_TOKEN", KEY="file:sub/key")
    found = read_secrets(wanted, tmp_path, {"CI_TOKEN": "se cret", "OTHER": "not asked for"})
    assert found == {"TOKEN": "se cret", "KEY": "line one\nline two\n"}


def test_a_file_may_lie_anywhere_and_hold_any_bytes_but_nul(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(b"\xff\xfe key")
    (value,) = read_secrets(wanting(KEY=f"file:{key}"), Path("/nonexistent"), {}).values()
    assert value.encode(errors="surrogateescape") == b"\xff\xfe key"


def test_a_plan_without_secrets_needs_nothing() -> None:
    assert read_secrets(plan(), Path("/nonexistent"), {}) == {}


def test_all_that_is_wrong_is_told_at_once_and_no_value(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"LARGE" * MAX_SECRET_BYTES)
    (tmp_path / "nul").write_bytes(b"NUL\0NUL")
    (tmp_path / "directory").mkdir()
    wanted = wanting(
        ABSENT="env:ABSENT",
        SHORT="env:SHORT",
        LINES="env:LINES",
        BLANK="env:BLANK",
        LONG="env:LONG",
        LARGE="file:large",
        NUL="file:nul",
        GONE="file:gone",
        DIRECTORY="file:directory",
    )
    environment = {
        "SHORT": "xyz",
        "LINES": "ab\ncd\nef",
        "BLANK": " " * 20,
        "LONG": "LONG" * MAX_SECRET_BYTES,
    }
    with pytest.raises(InvalidInputError) as caught:
        read_secrets(wanted, tmp_path, environment)
    lines = dict(line.split(": ", 1) for line in caught.value.details.splitlines())
    assert lines.keys() == wanted.secrets.keys()
    assert lines["ABSENT"] == "ABSENT is not set"
    assert lines["GONE"] == "gone: No such file or directory"
    assert lines["LARGE"] == lines["LONG"] == "is more than 64 KiB"
    assert all("4 letters" in lines[name] for name in ("SHORT", "LINES", "BLANK"))
    assert "NUL" in lines["NUL"]
    told = str(caught.value) + caught.value.details
    assert not any(value in told for value in ("xyz", "LONGLONG", "LARGELARGE", "NUL\0"))
