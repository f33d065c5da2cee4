"""A configuration that is not valid is refused by key, in words, and without its secrets."""

from __future__ import annotations

from pathlib import Path

import pytest

from banger.contracts.errors import InvalidInputError
from banger.settings import load_settings


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own configuration file, to be written."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "banger").mkdir()
    return tmp_path / "banger" / "config.toml"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"memory = 512", "memory: there is no such key"),
        (b'vcpus = "many"', "vcpus: should be a valid integer"),
        (b"vcpus = 0", "vcpus: should be greater than or equal to 1"),
        (b'jailer = "bin/jailer"', "jailer: must be an absolute path"),
        (b'state_dir = "/srv/my vms"', "state_dir: may have letters"),
        (b'run_dir = "/srv/[x]"', "run_dir: may have letters"),
        (b"vcpus = ", "is not valid TOML"),
        (b"\xff\xfe", "is not valid TOML"),
    ],
)
def test_a_bad_file_is_refused_with_the_key_and_the_files_that_count(
    text: bytes, said: str, config: Path
) -> None:
    config.write_bytes(text)
    with pytest.raises(InvalidInputError, match=said) as refused:
        load_settings()
    assert str(config) in refused.value.resolution


def test_a_bad_url_is_refused_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BANGER_REDIS_URL", "http://:s3cret@elsewhere")
    with pytest.raises(InvalidInputError, match="redis_url: the URL of Redis is none") as refused:
        load_settings()
    assert "s3cret" not in str(refused.value)
