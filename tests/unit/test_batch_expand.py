"""A plan's jobs: GitHub's matrix, copies and shards, what each job is told, and the limits."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banger.batch.expand import JobPlan, expand, job_env, vm_of
from banger.batch.plan import MAX_JOBS, Plan
from banger.contracts.errors import InvalidInputError


def plan(**changes: Any) -> Plan:
    return Plan.model_validate({"name": "unit", "image": "micro", "run": ["true"]} | changes)


def matrix(include: Any = (), exclude: Any = (), **axes: Any) -> dict[str, Any]:
    return {"axes": axes, "include": include, "exclude": exclude}


def combinations(**changes: Any) -> list[dict[str, str]]:
    return [job.matrix for job in expand(plan(matrix=matrix(**changes)))]


def titles(**changes: Any) -> list[str]:
    return [job.title for job in expand(plan(**changes))]


def test_a_plan_without_matrix_is_one_job():
    assert expand(plan()) == (JobPlan(index=0, total=1, title="job 0"),)


def test_copies_are_counted():
    jobs = expand(plan(count=3))
    assert [(job.index, job.total, job.shard, job.shards, job.title) for job in jobs] == [
        (0, 3, 1, 3, "job 0"),
        (1, 3, 2, 3, "job 1"),
        (2, 3, 3, 3, "job 2"),
    ]


def test_axes_are_combined_in_the_order_in_which_they_stand():
    assert titles(matrix=matrix(python=["3.11", "3.12"], os=["debian", "micro"]), shards=2) == [
        f"python={python} os={os} {shard}/2"
        for python in ("3.11", "3.12")
        for os in ("debian", "micro")
        for shard in (1, 2)
    ]


def test_titles_say_what_is_there_and_no_more():
    assert titles(shards=2) == ["shard 1/2", "shard 2/2"]
    assert titles(shards=1) == ["shard 1/1"]
    assert titles(matrix=matrix(a=["x"])) == ["a=x"]
    assert titles(matrix=matrix(a=["x"]), count=2) == ["a=x 1/2", "a=x 2/2"]


def test_a_long_title_is_cut_and_still_tells_jobs_apart():
    long = titles(matrix=matrix(a=["x" * 200 + "1", "x" * 200 + "2"]))
    assert [len(title) for title in long] == [160, 160]
    assert len(set(long)) == 2


def test_shards_get_their_files():
    jobs = expand(plan(matrix=matrix(a=["x", "y"]), shards=2, shard_files=[["t/a.py", "t/b.py"], []]))
    assert [job.files for job in jobs] == [("t/a.py", "t/b.py"), ()] * 2


def test_an_exclude_may_name_some_axes_only():
    assert combinations(a=["1", "2"], b=["x", "y"], exclude=[{"a": "1"}, {"a": "2", "b": "x"}]) == [
        {"a": "2", "b": "y"}
    ]


def test_includes_are_read_as_on_github():
    """The example of GitHub's own documentation."""
    assert combinations(
        fruit=["apple", "pear"],
        animal=["cat", "dog"],
        include=[
            {"color": "green"},
            {"color": "pink", "animal": "cat"},
            {"fruit": "apple", "shape": "circle"},
            {"fruit": "banana"},
            {"fruit": "banana", "animal": "cat"},
        ],
    ) == [
        {"fruit": "apple", "animal": "cat", "color": "pink", "shape": "circle"},
        {"fruit": "apple", "animal": "dog", "color": "green", "shape": "circle"},
        {"fruit": "pear", "animal": "cat", "color": "pink"},
        {"fruit": "pear", "animal": "dog", "color": "green"},
        {"fruit": "banana"},
        {"fruit": "banana", "animal": "cat"},
    ]


def test_a_matrix_of_includes_alone_is_those():
    assert combinations(include=[{"a": "1"}, {"a": "1", "b": "2"}]) == [{"a": "1"}, {"a": "1", "b": "2"}]


def test_what_was_excluded_can_be_included():
    assert combinations(a=["1"], exclude=[{"a": "1"}], include=[{"a": "1"}]) == [{"a": "1"}]


def test_no_jobs_is_an_error():
    with pytest.raises(InvalidInputError, match="no jobs"):
        expand(plan(matrix=matrix(a=["1"], exclude=[{"a": "1"}])))


@pytest.mark.parametrize(
    "changes",
    [
        {"matrix": matrix(a=[str(n) for n in range(101)], b=[str(n) for n in range(100)])},
        {"matrix": matrix(**{f"a{axis}": [str(n) for n in range(256)] for axis in range(16)})},
        {"matrix": matrix(a=["1", "2"]), "count": MAX_JOBS},
    ],
)
def test_too_many_jobs_are_refused_before_they_are_made(changes: dict[str, Any]):
    with pytest.raises(InvalidInputError, match="10000 jobs at most"):
        expand(plan(**changes))


def test_as_many_jobs_as_there_may_be():
    assert len(expand(plan(count=MAX_JOBS))) == MAX_JOBS


def test_a_job_is_told_which_it_is():
    sharded = plan(
        env={"A": "1"},
        matrix=matrix(**{"python-version": ["3.10"]}),
        shards=2,
        shard_files=[["t/a.py", "t/b.py"], []],
    )
    assert job_env(sharded, expand(sharded)[0]) == {
        "A": "1",
        "BANGER_INDEX": "0",
        "BANGER_TOTAL": "2",
        "BANGER_SHARD": "1",
        "BANGER_SHARDS": "2",
        "BANGER_MATRIX_PYTHON_VERSION": "3.10",
        "BANGER_SHARD_FILES": "t/a.py t/b.py",
    }
    assert job_env(sharded, expand(sharded)[1])["BANGER_SHARD_FILES"] == ""


def test_a_job_without_files_is_told_of_none():
    assert "BANGER_SHARD_FILES" not in job_env(plan(shards=2), expand(plan(shards=2))[0])


def test_axes_change_the_vm_that_are_named_like_something_of_it():
    changing = plan(
        matrix=matrix(
            image=["debian"], vcpus=["2"], memory=["1.5GiB"], disk=["512"], nat=["on"], python=["3"]
        )
    )
    assert vm_of(changing, expand(changing)[0]) == {
        "image": "debian",
        "vcpus": 2,
        "memory_mib": 1536,
        "disk_mib": 512,
        "nat": True,
    }
    plain = plan(matrix=matrix(python=["3"], image=["micro"]))
    assert vm_of(plain, expand(plain)[0]) == {}


@pytest.mark.parametrize(
    ("axis", "value"),
    [
        ("vcpus", "many"),
        ("vcpus", "65"),
        ("memory", "1"),
        ("disk", "big"),
        ("nat", "maybe"),
        ("image", "x" * 64),
    ],
)
def test_a_vm_that_cannot_be_is_refused_before_any_job_is_made(axis: str, value: str):
    with pytest.raises(InvalidInputError) as caught:
        expand(plan(matrix=matrix(include=[{axis: value}])))
    assert axis in str(caught.value)


@given(
    st.dictionaries(
        st.sampled_from(["a", "b", "c"]),
        st.lists(st.sampled_from("123"), unique=True, min_size=1),
        min_size=1,
    ),
    st.integers(1, 4),
)
def test_every_combination_has_each_shard_once(axes: dict[str, list[str]], shards: int):
    jobs = expand(plan(matrix=matrix(**axes), shards=shards))
    places = {(tuple(job.matrix.items()), job.shard) for job in jobs}
    size = shards
    for values in axes.values():
        size *= len(values)
    assert len(places) == len(jobs) == size == jobs[0].total
    assert [job.index for job in jobs] == list(range(size))
    assert len({job.title for job in jobs}) == size
