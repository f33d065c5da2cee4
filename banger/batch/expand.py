"""A plan's jobs: each combination of its matrix, as often as it asks, and what each job is told of itself."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from math import prod
from typing import Any

from pydantic import ValidationError

from banger.batch.plan import MAX_JOBS, Matrix, Plan, VmPlan, axis_variable
from banger.complaints import complaints
from banger.contracts.errors import InvalidInputError
from banger.contracts.requests import Frozen
from banger.contracts.sizes import parse_mib

_MAX_TITLE = 160
_MAX_IMAGE = 63
_SIZES = {"memory": "memory_mib", "disk": "disk_mib"}


class JobPlan(Frozen):
    """One job of a batch. Jobs are counted from 0, shards from 1 (as test runners count their ``--shard``).

    ``shards`` is how many there are of the same combination, whether the plan calls them shards or copies.
    """

    index: int
    total: int
    matrix: dict[str, str] = {}
    shard: int = 1
    shards: int = 1
    files: tuple[str, ...] = ()
    title: str


def expand(plan: Plan) -> tuple[JobPlan, ...]:
    """Return the plan's jobs in order, a combination's shards side by side.

    InvalidInputError where there are none or more than MAX_JOBS, or where an axis that changes the VM has a
    value that no VM can have.
    """
    combinations = [{}] if plan.matrix is None else _combinations(plan.matrix)
    if not combinations:
        raise InvalidInputError(
            "the batch has no jobs: `exclude` takes every combination out of the matrix",
            resolution="Exclude less, or include what should run.",
        )
    shards = plan.shards or plan.count
    total = len(combinations) * shards
    if total > MAX_JOBS:
        raise _too_many(f"{len(combinations)} combinations in {shards} shards or copies are {total} jobs")
    for combination in combinations:
        _vm_overrides(combination)
    places = itertools.product(combinations, range(1, shards + 1))
    return tuple(_job(plan, index, total, *place) for index, place in enumerate(places))


def job_env(plan: Plan, job: JobPlan) -> dict[str, str]:
    """Return a job's variables: the plan's, and those that tell it which job it is. Secrets are not in it."""
    told = {
        "BANGER_INDEX": str(job.index),
        "BANGER_TOTAL": str(job.total),
        "BANGER_SHARD": str(job.shard),
        "BANGER_SHARDS": str(job.shards),
    }
    axes = {axis_variable(axis): value for axis, value in job.matrix.items()}
    files = {"BANGER_SHARD_FILES": " ".join(job.files)} if plan.shard_files else {}
    return plan.env | told | axes | files


def vm_of(plan: Plan, job: JobPlan) -> dict[str, Any]:
    """Return what a job's matrix changes of the plan's VM, in the words of a VmSpec; nothing else.

    The axes that do are image, vcpus, memory, disk and nat.
    """
    changed = _vm_overrides(job.matrix)
    asked = {"image": plan.image} | plan.vm.model_dump()
    return {field: value for field, value in changed.items() if value != asked[field]}


def _job(plan: Plan, index: int, total: int, combination: dict[str, str], shard: int) -> JobPlan:
    return JobPlan(
        index=index,
        total=total,
        matrix=combination,
        shard=shard,
        shards=plan.shards or plan.count,
        files=plan.shard_files[shard - 1] if plan.shard_files else (),
        title=_title(plan, index, combination, shard),
    )


def _title(plan: Plan, index: int, combination: dict[str, str], shard: int) -> str:
    shards = plan.shards or plan.count
    words = [f"{axis}={value}" for axis, value in combination.items()]
    if not words and not plan.shards:
        return f"job {index}"
    if shards > 1 or not words:
        words += ([] if words else ["shard"]) + [f"{shard}/{shards}"]
    title = " ".join(words)
    if len(title) <= _MAX_TITLE:
        return title
    suffix = f"… (job {index})"  # what is cut off may be what tells it from the others
    return title[: _MAX_TITLE - len(suffix)] + suffix


def _combinations(matrix: Matrix) -> list[dict[str, str]]:
    """Return what the matrix comes to, as GitHub reads one: the product, less `exclude`, then `include`."""
    size = prod(map(len, matrix.axes.values()))
    if size > MAX_JOBS:  # asked before they are made, and before `exclude`
        raise _too_many(f"the axes {', '.join(matrix.axes)} have {size} combinations")
    product = itertools.product(*matrix.axes.values()) if matrix.axes else ()
    originals = [dict(zip(matrix.axes, values, strict=True)) for values in product]
    kept = [item for item in originals if not any(_agrees(item, out, out) for out in matrix.exclude)]
    return _with_includes(kept, matrix)


def _with_includes(originals: list[dict[str, str]], matrix: Matrix) -> list[dict[str, str]]:
    """Add what is included: to each combination whose axes it leaves as they are, else as one of its own.

    Those on their own are never added to, and what was added may be overwritten, but no axis of the matrix.
    """
    made = [dict(item) for item in originals]
    alone = []
    for included in matrix.include:
        axes = included.keys() & matrix.axes.keys()
        fitting = [item for item in made if _agrees(item, included, axes)]
        for item in fitting:
            item.update(included)
        if not fitting:
            alone.append(dict(included))
    return made + alone


def _agrees(item: dict[str, str], other: dict[str, str], axes: Iterable[str]) -> bool:
    return all(item[axis] == other[axis] for axis in axes)


def _vm_overrides(combination: dict[str, str]) -> dict[str, Any]:
    """Return what the axes that are named like something of the VM make of it, in the words of a VmSpec."""
    asked: dict[str, Any] = {axis: combination[axis] for axis in ("vcpus", "nat") if axis in combination}
    for axis, field in _SIZES.items():
        if axis in combination:
            asked[field] = parse_mib(combination[axis], f"matrix: {axis}")
    try:
        valid = VmPlan.model_validate(asked).model_dump(include=set(asked))
    except ValidationError as error:
        raise InvalidInputError(
            "the matrix has a value that no VM can have",
            details="\n".join(complaints(error)),
            resolution="Axes named image, vcpus, memory, disk and nat change the VM.",
        ) from None
    if "image" not in combination:
        return valid
    if len(combination["image"]) > _MAX_IMAGE:
        raise InvalidInputError(f"matrix: an image's name is {_MAX_IMAGE} characters at most")
    return {"image": combination["image"]} | valid


def _too_many(what: str) -> InvalidInputError:
    return InvalidInputError(
        f"a batch has {MAX_JOBS} jobs at most; {what}",
        resolution="Take values out of the matrix, or make several batches.",
    )
