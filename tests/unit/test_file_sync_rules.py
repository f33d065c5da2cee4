"""What ``[[file_sync]]`` accepts: nothing is read outside the home, or written outside the guest's /root."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import pytest
from farm_facts import steps
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from banger.contracts.errors import InvalidInputError
from banger.contracts.file_sync import (
    MAX_BUNDLE_BYTES,
    MAX_FILE_BYTES,
    MAX_FILES,
    Bundle,
    SyncedFile,
    SyncEntry,
    guest_path,
)
from banger.contracts.names import HostPaths
from banger.farm import Farm
from banger.file_sync import bundle_of, leave
from banger.home_files import HomeError, read_home
from banger.pipelines import CREATE, FILES_LEFT, RESTART, RUN, START
from banger.settings import Settings, load_settings

SECRET = b"from outside"
JOB = "0123456789ab"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "outside").write_bytes(SECRET)
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def entry(host: str, guest: str = "/root/x", mode: str | None = None) -> SyncEntry:
    return SyncEntry(host=host, guest=guest, mode=mode)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('host = "x"\nguest = "/root/x"', r"file_sync\.0\.host: must begin with ~/ or /"),
        ('host = "~"\nguest = "/root/x"', r"file_sync\.0\.host: must begin"),
        ('host = "~/../x"\nguest = "/root/x"', r"file_sync\.0\.host: must begin"),
        ('host = "~/a\\u0000b"\nguest = "/root/x"', r"file_sync\.0\.host: must begin"),
        ('host = "~/x"\nguest = "/etc/x"', r"file_sync\.0\.guest: must be beneath /root"),
        ('host = "~/x"\nguest = "/root"', r"file_sync\.0\.guest: must be beneath /root"),
        ('host = "~/x"\nguest = "root/x"', r"file_sync\.0\.guest: must be an absolute path"),
        ('host = "~/x"\nguest = "/root/../etc/x"', r"file_sync\.0\.guest: must be an absolute path"),
        ('host = "~/x"\nguest = "/root/.ssh/authorized_keys"', r"file_sync\.0\.guest: is kept for banger"),
        ('host = "~/x"\nguest = "/root//.ssh/./authorized_keys/"', r"file_sync\.0\.guest: is kept for"),
        ('host = "~/x"\nguest = "/root/x"\nmode = "4755"', r"file_sync\.0\.mode: string should match"),
        ('host = "~/x"\nguest = "/root/x"\nmode = "888"', r"file_sync\.0\.mode: string should match"),
        ('host = "~/x"\nguest = "/root/x"\nmode = 0o600', r"file_sync\.0\.mode: should be a valid string"),
        ('host = "~/x"', r"file_sync\.0\.guest: field required"),
        ('host = "~/x"\nguest = "/root/x"\nowner = "me"', r"file_sync\.0\.owner: there is no such key"),
    ],
)
def test_an_entry_that_is_not_valid_is_refused_with_its_key_and_file(
    text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    config = tmp_path / "banger" / "config.toml"
    config.parent.mkdir()
    config.write_text(f"[[file_sync]]\n{text}\n")
    with pytest.raises(InvalidInputError, match=said) as refused:
        load_settings()
    assert str(config) in refused.value.resolution


@given(st.lists(st.sampled_from(["root", "etc", "..", ".", "", ".ssh", "authorized_keys", "a b", "\n", "é"])))
def test_no_accepted_guest_path_is_outside_root_or_banger_s_own(parts: list[str]) -> None:
    try:
        path = guest_path("/".join(["", *parts]))
    except ValueError:
        return
    assert os.path.normpath(path) == path == guest_path(path)
    assert PurePosixPath("/root") in PurePosixPath(path).parents
    assert not path.startswith(("/root/.ssh/authorized_keys", "/root/.banger-sync"))


@given(st.text())
def test_no_text_at_all_is_accepted_as_a_guest_path_outside_root(text: str) -> None:
    try:
        path = guest_path(text)
    except ValueError:
        return
    assert path.startswith("/root/")
    assert os.path.normpath(path) == path


# Names of a small tree in which everything can point at everything, and out of it.
_NAMES = st.sampled_from(["a", "b", "c"])
_TARGETS = st.lists(
    st.sampled_from(["a", "b", "c", "..", ".", "outside", "home"]), min_size=1, max_size=5
).map("/".join)
_TREES = st.dictionaries(
    st.lists(_NAMES, min_size=1, max_size=3).map("/".join),
    st.one_of(st.just(None), _TARGETS, _TARGETS.map(lambda target: f"ABSOLUTE/{target}")),
    max_size=8,
)


@given(tree=_TREES, asked=_TARGETS)
def test_nothing_outside_the_home_is_ever_read(tree: dict[str, str | None], asked: str) -> None:
    base = Path(tempfile.mkdtemp())
    try:
        (base / "outside").write_bytes(SECRET)
        home = base / "home"
        home.mkdir()
        for name, target in tree.items():
            _make(home / name, target, base)
        for path in (f"~/{asked}", str(home / asked)):
            found: Sequence[object] = ()
            try:
                found = [file.content for file in read_home(home, path, 100)]
            except HomeError:
                continue
            assert set(found) <= {b"inside"}
    finally:
        shutil.rmtree(base)


def _make(path: Path, target: str | None, base: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if target is None:
            path.write_bytes(b"inside")
        else:
            path.symlink_to(target.replace("ABSOLUTE", str(base)))
    except OSError:
        return  # the tree has something else there already


def test_links_that_stay_inside_are_as_good_as_what_they_lead_to(home: Path) -> None:
    (home / "dotfiles/deep").mkdir(parents=True)
    (home / "dotfiles/vimrc").write_text("set nu")
    (home / ".vimrc").symlink_to("dotfiles/deep/../vimrc")
    (home / ".absolute").symlink_to(home / ".vimrc")
    assert [file.content for file in read_home(home, "~/.absolute", 100)] == [b"set nu"]


def test_a_tree_arrives_by_its_names_and_keeps_no_right_that_lets_others_write(home: Path) -> None:
    (home / "d/e").mkdir(parents=True)
    (home / "d/e/f").write_bytes(b"\xff")
    (home / "d/e/f").chmod(0o777)
    (home / "d/g").write_bytes(b"")
    (home / "d/g").chmod(0o4600)
    files = bundle_of([entry("~/d", "/root//t/")], home).files
    assert [(file.path, file.mode, file.content) for file in files] == [
        ("/root/t/e/f", 0o755, b"\xff"),
        ("/root/t/g", 0o600, b""),
    ]
    assert {file.mode for file in bundle_of([entry("~/d", mode="0640")], home).files} == {0o640}


def test_too_much_is_refused_and_the_entry_is_named(home: Path) -> None:
    (home / "big").touch()
    os.truncate(home / "big", MAX_FILE_BYTES + 1)
    (home / "many").mkdir()
    for number in range(MAX_FILES + 1):
        (home / "many" / str(number)).touch()
    (home / "loop").mkdir()
    (home / "loop/again").symlink_to(".")
    for host, why in (
        ("~/big", "holds more than 1024 KiB"),
        ("~/many", "more than 64 files"),
        ("~/loop", "names, or they lie deeper"),
        ("~/none", "No such file"),
        ("/etc/passwd", "leaves the home"),
    ):
        with pytest.raises(InvalidInputError, match=why) as refused:
            bundle_of([entry(host)], home)
        assert f"{host} cannot be copied to /root/x" in refused.value.brief


def test_what_does_not_go_together_is_refused(home: Path) -> None:
    (home / "a").write_text("a")
    with pytest.raises(InvalidInputError, match="more than one file would become /root/x"):
        bundle_of([entry("~/a"), entry("~/a")], home)
    megabyte = bytes(MAX_FILE_BYTES)
    files = [SyncedFile(path=f"/root/{n}", mode=0o600, content=megabyte) for n in range(9)]
    with pytest.raises(ValidationError, match="more than 8 MiB"):
        Bundle(files=tuple(files))
    assert sum(len(file.content) for file in Bundle(files=tuple(files[:8])).files) == MAX_BUNDLE_BYTES


def test_authorized_keys_are_not_replaced_by_a_directory_that_has_some(home: Path) -> None:
    (home / ".ssh").mkdir()
    (home / ".ssh/authorized_keys").write_text("mine")
    with pytest.raises(InvalidInputError, match="is kept for banger itself"):
        bundle_of([entry("~/.ssh", "/root/.ssh")], home)


def test_a_bundle_survives_its_journey_and_is_left_for_the_worker_alone(tmp_path: Path) -> None:
    paths = HostPaths(tmp_path / "state", tmp_path / "run")
    bundle = Bundle(files=(SyncedFile(path="/root/x", mode=0o600, content=bytes(range(256))),))
    with pytest.raises(InvalidInputError, match="cannot be handed to this host's worker"):
        leave(bundle, paths, JOB)
    paths.spool.mkdir(parents=True)
    leave(bundle, paths, JOB)
    assert Bundle.model_validate_json(paths.bundle(JOB).read_bytes()) == bundle
    assert paths.bundle(JOB).stat().st_mode & 0o007 == 0


def test_the_stage_is_there_only_where_files_were_left() -> None:
    for pipeline in (CREATE, START, RESTART, RUN):
        given = {"argv": ["true"], "timeout_s": 5}
        without = [call.stage for call in steps(pipeline, given)]
        with_files = [call.stage for call in steps(pipeline, given | {FILES_LEFT: True})]
        assert "file_sync" not in without
        after = with_files.index("file_sync")
        assert with_files[after - 1] == "wait_ready"
        assert [*with_files[:after], *with_files[after + 1 :]] == without


def test_files_reach_no_other_host_and_that_is_said_before_anything_is_begun(tmp_path: Path) -> None:
    farm = Farm(Settings(host="here", state_dir=tmp_path, run_dir=tmp_path, file_sync=(entry("~/x"),)))
    with pytest.raises(InvalidInputError, match="cannot reach a VM of host there"):
        farm._files_left(CREATE, JOB, "there")
