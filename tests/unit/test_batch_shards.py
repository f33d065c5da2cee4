"""Test files over shards: balanced by past times, always the same way, none lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banger.batch import shards as shards_module
from banger.batch.plan import MAX_SHARD_BYTES, Plan
from banger.batch.shards import files_of, sharded, split, times_of_files
from banger.contracts.errors import InvalidInputError


def test_the_longest_goes_to_the_shard_with_least_to_do():
    times = {"a": 10, "b": 6, "c": 5, "d": 4, "e": 1}
    assert split(["a", "b", "c", "d", "e"], times, 2) == (("a", "d"), ("b", "c", "e"))


def test_a_new_file_counts_as_the_median():
    assert split(["slow", "usual", "fast", "new"], {"slow": 7, "usual": 4, "fast": 1}, 2) == (
        ("fast", "slow"),
        ("new", "usual"),
    )


def test_without_times_files_are_dealt_out_in_turn():
    assert split(["c", "a", "b", "a", "d"], {"gone": 5}, 3) == (("a", "d"), ("b",), ("c",))


def test_files_that_take_no_time_are_spread_too():
    assert split(["a", "b", "c", "d"], dict.fromkeys("abcd", 0.0), 2) == (("a", "c"), ("b", "d"))


def test_there_may_be_more_shards_than_files():
    assert split(["a"], {}, 3) == (("a",), (), ())
    assert split(["a"], {"a": 1}, 3) == (("a",), (), ())


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1.0])
def test_times_that_are_none_are_no_times(seconds: float):
    assert split(["a", "b"], {"a": seconds}, 2) == (("a",), ("b",))


@pytest.mark.parametrize("name", ["a b", "a\tb", "a\n", "a\u00a0b", "a\x00"])
def test_whitespace_in_names_is_refused(name: str):
    with pytest.raises(InvalidInputError, match="whitespace"):
        split([name], {}, 1)


FILES = st.lists(st.text("abc/._", min_size=1, max_size=6), max_size=30)


@given(
    FILES, st.dictionaries(st.text("abc/._", min_size=1, max_size=6), st.floats(0, 1000)), st.integers(1, 8)
)
def test_every_file_is_in_one_shard_whatever_the_order(
    files: list[str], times: dict[str, float], shards: int
):
    parts = split(files, times, shards)
    assert len(parts) == shards
    assert sorted(file for part in parts for file in part) == sorted(set(files))
    assert split(files[::-1], times, shards) == parts


@given(st.lists(st.floats(0.1, 100), min_size=1, max_size=40), st.integers(1, 6))
def test_no_shard_has_more_than_another_by_more_than_its_last_file(seconds: list[float], shards: int):
    times = {f"f{number:02}": value for number, value in enumerate(seconds)}
    loads = [[times[file] for file in part] for part in split([*times], times, shards)]
    least = min(sum(load) for load in loads)
    assert all(sum(load) - min(load) <= least + 1e-6 for load in loads if load)


@pytest.mark.parametrize(
    ("key", "file"),
    [
        ("tests/unit/test_x.py", "tests/unit/test_x.py"),
        ("./tests/unit/test_x.py", "tests/unit/test_x.py"),
        ("/root/work/tests/unit/test_x.py", "tests/unit/test_x.py"),
        ("unit/test_x.py", "tests/unit/test_x.py"),
        ("tests.unit.test_x", "tests/unit/test_x.py"),
        ("tests.unit.test_x.TestFoo", "tests/unit/test_x.py"),
        ("tests.unit.test_x.TestFoo.TestInner", "tests/unit/test_x.py"),
        ("unit.test_x.TestFoo", "tests/unit/test_x.py"),
        ("test_only.TestFoo", "tests/test_only.py"),
        ("tests.unit.test_x_more", "tests/unit/test_x_more.py"),
        ("com.example.FooTest", "src/test/java/com/example/FooTest.java"),
        ("test_x", None),
        ("test_x.py", None),
        ("tests.unit", None),
        ("other.thing", None),
        ("", None),
        ("...", None),
        ("/", None),
    ],
)
def test_a_test_case_leads_to_its_file(key: str, file: str | None):
    files = [
        "tests/unit/test_x.py",
        "tests/real/test_x.py",
        "tests/unit/test_x_more.py",
        "tests/test_only.py",
        "src/test/java/com/example/FooTest.java",
    ]
    assert times_of_files({key: 2.5}, files) == ({} if file is None else {file: 2.5})


def test_the_classes_of_a_file_are_added_up():
    times = {
        "tests.a.TestOne": 1.0,
        "tests.a.TestTwo": 2.0,
        "tests/a.py": 0.5,
        "tests.a.TestBad": float("nan"),
    }
    assert times_of_files(times, ["tests/a.py", "tests/b.py"]) == {"tests/a.py": 3.5}


@given(st.dictionaries(st.text("ab./", max_size=8), st.floats(0, 10)), FILES)
def test_whatever_the_keys_are_only_our_files_get_times(times: dict[str, float], files: list[str]):
    assert times_of_files(times, files).keys() <= set(files)


def test_files_are_found_by_globs(tmp_path: Path):
    for name in (
        "tests/test_a.py",
        "tests/deep/er/test_b.py",
        "tests/helper.py",
        ".git/test_c.py",
        "venv/test_d.py",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / ".bangerignore").write_text("venv/\n")
    (tmp_path / "tests/test_link.py").symlink_to("test_a.py")
    assert files_of(["**/test_*.py"], tmp_path) == ("tests/deep/er/test_b.py", "tests/test_a.py")
    assert files_of(["tests/*.py", "tests/test_a.py"], tmp_path) == ("tests/helper.py", "tests/test_a.py")
    with pytest.raises(InvalidInputError, match="no file of"):
        files_of(["venv/*"], tmp_path)


def test_files_that_are_found_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("a", "b", "c d"):
        (tmp_path / name).touch()
    with pytest.raises(InvalidInputError, match="whitespace"):
        files_of(["*"], tmp_path)
    monkeypatch.setattr(shards_module, "MAX_SHARD_FILES", 1)
    with pytest.raises(InvalidInputError, match="1 is the most"):
        files_of(["[ab]"], tmp_path)
    monkeypatch.setattr(shards_module, "_MAX_SEEN", 2)
    with pytest.raises(InvalidInputError, match="more than 2 files"):
        files_of(["[ab]"], tmp_path)


@pytest.mark.parametrize(("by", "parts"), [("junit-times", ("b", "ac")), ("round-robin", ("ac", "b"))])
def test_a_plan_gets_the_files_of_its_shards(tmp_path: Path, by: str, parts: tuple[str, str]):
    for name in "abc":
        (tmp_path / f"{name}.py").touch()
    plan = Plan.model_validate(
        {"name": "a", "image": "b", "run": ["c"], "shards": 2, "split": {"by": by, "files": ["*.py"]}}
    )
    shards = sharded(plan, tmp_path, {"a.TestA": 1.0, "b": 9.0, "c.py": 1.0}).shard_files
    assert shards == tuple(tuple(f"{name}.py" for name in part) for part in parts)
    unsplit = Plan.model_validate({"name": "a", "image": "b", "run": ["c"], "shards": 2})
    assert sharded(unsplit, tmp_path, {}) is unsplit


def test_a_shard_without_files_is_refused_for_it_would_test_everything(tmp_path: Path):
    (tmp_path / "a.py").touch()
    plan = Plan.model_validate(
        {"name": "a", "image": "b", "run": ["c"], "shards": 2, "split": {"files": ["*.py"]}}
    )
    with pytest.raises(InvalidInputError, match="2 shards, and only 1 files"):
        sharded(plan, tmp_path, {})


def test_a_shard_has_no_more_files_than_a_variable_holds(tmp_path: Path):
    for number in range(MAX_SHARD_BYTES // 200 + 1):
        (tmp_path / f"{number:0200}").touch()
    plan = Plan.model_validate(
        {"name": "a", "image": "b", "run": ["c"], "shards": 1, "split": {"files": ["*"]}}
    )
    with pytest.raises(InvalidInputError, match="use more shards"):
        sharded(plan, tmp_path, {})
