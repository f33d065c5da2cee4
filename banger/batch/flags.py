"""A plan from flags alone, and a file's plan with flags over it. Flags say things as the file does."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any, TypedDict, Unpack

from pydantic import ValidationError

from banger.batch.plan import MAX_NAME, Plan
from banger.batch.plan_keys import secret_reference
from banger.complaints import complaints
from banger.contracts.durations import parse_duration
from banger.contracts.errors import InvalidInputError
from banger.contracts.sizes import parse_mib


class Flags(TypedDict, total=False):
    """What can be said by flags; None and an empty list are flags that were not given.

    Sizes and times are text with units (``2GiB``, ``10m``), ``env`` is K=V, ``secrets`` are NAME=env:VARIABLE
    or NAME=file:PATH, ``retries`` is ``2`` or ``infra=2,test=1``, and ``argv`` is the command, word for word.
    """

    name: str | None
    image: str | None
    count: int | None
    shards: int | None
    vcpus: int | None
    memory: str | None
    disk: str | None
    system_disk: str | None
    nat: bool | None
    vmm: str | None
    disk_rate: str | None
    disk_ops: int | None
    net_rate: str | None
    env: Sequence[str] | None
    secrets: Sequence[str] | None
    upload: Sequence[str] | None
    artifacts: Sequence[str] | None
    junit: Sequence[str] | None
    setup: Sequence[str] | None
    workdir: str | None
    timeout: str | None
    batch_timeout: str | None
    retries: str | None
    keep: str | None
    keep_ttl: str | None
    max_parallel: int | None
    fail_fast: bool | None
    host: str | None
    argv: Sequence[str] | None


_LISTS = ("upload", "artifacts", "junit", "setup")
_AS_THEY_ARE = ("name", "image", "count", "shards", "workdir", "keep", "max_parallel", "fail_fast", "host")
_VM_AS_IT_IS = {"vcpus": "vcpus", "nat": "nat", "vmm": "vmm", "disk_ops": "disk_ops_s"}
_VM_SIZES = {
    "memory": "memory_mib",
    "disk": "disk_mib",
    "system_disk": "system_overlay_mib",
    "disk_rate": "disk_rate_mib_s",
    "net_rate": "net_rate_mib_s",
}


def plan_from_flags(**flags: Unpack[Flags]) -> Plan:
    """Return the plan that flags say, else InvalidInputError; without a name it has the image's."""
    if not flags.get("image"):
        raise InvalidInputError(
            "a batch needs an image", resolution="Give a plan's file, or --image NAME and a command after --."
        )
    if not flags.get("argv"):
        raise InvalidInputError("a batch needs a command", resolution="Write it after --.")
    named = {"name": str(flags["image"])[:MAX_NAME].rstrip("-")}
    return _validated(named | _over({}, flags))


def overridden(plan: Plan, **flags: Unpack[Flags]) -> Plan:
    """Return the plan with what flags say in place of what it said.

    Variables and secrets are added by name, paths and globs to those that are there; ``argv`` is the new run.
    """
    return _validated(_over(plan.model_dump(exclude_unset=True), flags))


def _over(said: dict[str, Any], flags: Flags) -> dict[str, Any]:
    """Return a plan's data with that of the flags over it."""
    given: dict[str, Any] = {key: value for key, value in flags.items() if value is not None and value != []}
    data = said | {key: given[key] for key in _AS_THEY_ARE if key in given}
    for key in _LISTS:
        if key in given:
            data[key] = tuple(dict.fromkeys((*said.get(key, ()), *given[key])))
    for key, parsed in (("env", _env), ("secrets", _secrets)):
        if key in given:
            data[key] = said.get(key, {}) | parsed(given[key])
    for key in ("timeout", "batch_timeout", "keep_ttl"):
        if key in given:
            data[f"{key}_s"] = parse_duration(given[key], key.replace("_", " "))
    if vm := _vm(given):
        data["vm"] = said.get("vm", {}) | vm
    if "retries" in given:
        data["retries"] = said.get("retries", {}) | _retries(given["retries"])
    if "argv" in given:
        data["run"] = (shlex.join(given["argv"]),)
    return data


def _vm(given: dict[str, Any]) -> dict[str, Any]:
    vm = {field: given[key] for key, field in _VM_AS_IT_IS.items() if key in given}
    sizes = {key: field for key, field in _VM_SIZES.items() if key in given}
    return vm | {field: parse_mib(given[key], key.replace("_", " ")) for key, field in sizes.items()}


def _env(texts: Sequence[str]) -> dict[str, str]:
    return dict(_pair(text, "env", "K=V") for text in texts)


def _secrets(texts: Sequence[str]) -> dict[str, dict[str, str]]:
    found = {}
    for text in texts:
        form = "NAME=env:VARIABLE or NAME=file:PATH"
        name, reference = _pair(text, "secret", form)
        found[name] = secret_reference(reference) or {}
        if not found[name]:  # the text is not repeated: it may be the secret itself
            raise InvalidInputError(f"secret {name} is not {form}", resolution="Say where to read it.")
    return found


def _pair(text: str, what: str, form: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise InvalidInputError(f"--{what} is not {form}", resolution="Write a name, =, and what it is.")
    return name, value


def _retries(text: str) -> dict[str, int]:
    found = {}
    for part in text.split(","):
        kind, equals, number = part.strip().rpartition("=")
        kind = kind if equals else "infra"
        if kind not in ("infra", "test") or not number.isascii() or not number.isdecimal() or kind in found:
            raise InvalidInputError(
                f"retries {text!r} are not a number, nor like infra=2,test=1",
                resolution="A number alone is that of infra: of attempts more where banger failed the job.",
            )
        found[kind] = int(number[:9])
    return found


def _validated(data: dict[str, Any]) -> Plan:
    try:
        return Plan.model_validate(data)
    except ValidationError as error:
        raise InvalidInputError(
            "the batch that was asked for is not valid",
            details="\n".join(complaints(error)),
            resolution="`banger batch run --help` shows what can be asked.",
        ) from None
