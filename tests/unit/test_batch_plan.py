"""The models of a plan: what they take, what they refuse, and that they cross a queue unchanged."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from banger.batch.plan import MAX_COMMAND_BYTES, MAX_JOBS, Matrix, Plan, SecretRef

SMALLEST: dict[str, Any] = {"name": "unit", "image": "micro", "run": ["make test"]}


def plan(**changes: Any) -> Plan:
    return Plan.model_validate(SMALLEST | changes)


def why_not(**changes: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        plan(**changes)
    return str(caught.value)


def test_the_smallest_plan_is_one_job_with_an_hour():
    smallest = plan()
    assert (smallest.count, smallest.timeout_s, smallest.batch_timeout_s) == (1, 3600, 86400)
    assert (smallest.workdir, smallest.keep, smallest.retries.infra) == ("/root/work", "never", 1)
    assert smallest.vm.memory_mib is None


def test_a_plan_crosses_a_queue_unchanged():
    full = plan(
        matrix={"axes": {"python": ["3.10"]}, "include": [{"os": "debian"}], "exclude": [{"python": "3.9"}]},
        shards=2,
        split={"files": ["tests/**/test_*.py"]},
        env={"A": "1\n2"},
        secrets={"TOKEN": {"env": "CI_TOKEN"}},
        shard_files=[["tests/a.py"], []],
    )
    assert Plan.model_validate_json(full.model_dump_json()) == full


@pytest.mark.parametrize("name", ["", "Unit", "-a", "a-", "a" * 41, "a.b", "a\n", "last"])
def test_a_name_is_a_short_label(name: str):
    assert "name" in why_not(name=name)


@pytest.mark.parametrize("workdir", ["/root/work", "/srv/x", "/home/me/src", "/tmp/a.b", "/var/w", "/opt/w"])
def test_work_is_done_below_a_few_places(workdir: str):
    assert plan(workdir=workdir).workdir == workdir


@pytest.mark.parametrize(
    "workdir",
    ["/", "/root", "root/work", "/root/", "/root//w", "/root/../etc", "/root/./w", "/etc/w", "/rooted/w",
     "/root/w\n", "/root/a b", "/root/$HOME"],
)  # fmt: skip
def test_work_is_done_nowhere_else(workdir: str):
    assert "workdir" in why_not(workdir=workdir)


@pytest.mark.parametrize("name", ["1A", "A-B", "", "A B", "BANGER_INDEX", "BANGER_", "Ä", "A" * 129, "A\n"])
@pytest.mark.parametrize("field", ["env", "secrets"])
def test_a_variable_has_a_variable_s_name_that_is_not_ours(field: str, name: str):
    assert field in why_not(**{field: {name: "x" if field == "env" else {"env": "X"}}})


def test_a_variable_is_either_plain_or_secret():
    assert "TOKEN must not be in `env` too" in why_not(
        env={"TOKEN": "x"}, secrets={"TOKEN": {"file": "token.txt"}}
    )


@pytest.mark.parametrize("reference", [{}, {"env": "A", "file": "b"}, {"env": "A-B"}, {"value": "hunter2"}])
def test_a_secret_is_one_reference(reference: dict[str, str]):
    with pytest.raises(ValidationError):
        SecretRef.model_validate(reference)


@pytest.mark.parametrize("field", ["artifacts", "junit", "upload"])
@pytest.mark.parametrize("path", ["/etc/passwd", "..", "../x", "a/../../b", "a/..", "", "a\x00", "a\nb"])
def test_paths_and_globs_stay_below(field: str, path: str):
    assert field in why_not(**{field: [path]})
    assert "split" in why_not(shards=2, split={"files": [path]})


@pytest.mark.parametrize("path", [".", "./", ".//."])
def test_a_glob_names_something_and_an_upload_may_be_all(path: str):
    assert "artifacts" in why_not(artifacts=[path])
    assert plan(upload=[path]).upload == (path,)


def test_globs_may_have_dots_in_names():
    assert plan(artifacts=["**/*.log", "a..b", "..."]).artifacts == ("**/*.log", "a..b", "...")


@pytest.mark.parametrize(
    "changes",
    [
        {"run": []},
        {"run": ["  \n"]},
        {"run": ["a\x00"]},
        {"run": ["x" * (MAX_COMMAND_BYTES + 1)]},
        {"run": ["x"] * 65},
        {"setup": ["x"] * 65},
        {"count": 0},
        {"count": MAX_JOBS + 1},
        {"shards": 0},
        {"max_parallel": 0},
        {"timeout_s": 0},
        {"timeout_s": float("inf")},
        {"timeout_s": float("nan")},
        {"batch_timeout_s": 31 * 86400},
        {"retries": {"infra": 6}},
        {"keep": "sometimes"},
        {"env": {f"A{number}": "" for number in range(257)}},
        {"env": {"A": "x" * (32 * 1024 + 1)}},
        {"vm": {"vcpus": 65}},
        {"vm": {"memory_mib": 1}},
        {"host": "Host"},
        {"nothing": 1},
    ],
)
def test_everything_has_a_limit(changes: dict[str, Any]):
    assert next(iter(changes)) in why_not(**changes)


def test_the_whole_plan_has_a_limit():
    assert "larger than 256 KiB" in why_not(env={f"A{number}": "x" * 30_000 for number in range(9)})


def test_count_and_shards_do_not_go_together():
    assert "must not stand beside `count`" in why_not(count=2, shards=2)


def test_a_split_needs_shards():
    assert "needs `shards`" in why_not(split={"files": ["t/*.py"]})


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ([["a"]], "as many parts"),
        ([["a b"], []], "shard_files"),
        ([["../a"], []], "must not hold"),
        ([[f"{number:0100}" for number in range(1000)], []], "use more shards"),
    ],
)
def test_files_of_shards_fit_the_shards(files: list[list[str]], why: str):
    assert why in why_not(shards=2, shard_files=files)


@pytest.mark.parametrize(
    ("matrix", "why"),
    [
        ({}, "is empty"),
        ({"axes": {"python": []}}, "at least 1"),
        ({"axes": {"python": ["1", "1"]}}, "the same value twice"),
        ({"axes": {"python": ["1"]}, "exclude": [{"snake": "1"}]}, "snake, which is no axis"),
        ({"axes": {"a-b": ["1"], "a_b": ["1"]}}, "both BANGER_MATRIX_A_B"),
        ({"axes": {"os": ["1"]}, "include": [{"OS": "2"}]}, "both BANGER_MATRIX_OS"),
        ({"axes": {"include": ["1"]}}, "no axis"),
        ({"axes": {"1": ["1"]}}, "axis' name"),
        ({"axes": {"a": ["x\ny"]}}, "control characters"),
        ({"axes": {"a": ["x"] * 257}}, "at most 256"),
        ({"include": [{}]}, "at least 1"),
    ],
)
def test_a_matrix_is_unambiguous_and_bounded(matrix: dict[str, Any], why: str):
    with pytest.raises(ValidationError) as caught:
        Matrix.model_validate(matrix)
    assert why in str(caught.value)
