"""The values of a plan's secrets, from the environment or the files of whoever submits it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from banger.batch.masking import MIN_SECRET
from banger.batch.plan import Plan, SecretRef
from banger.contracts.errors import InvalidInputError

MAX_SECRET_BYTES = 64 * 1024


def read_secrets(plan: Plan, directory: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the secrets' values by name; files are relative to ``directory``.

    InvalidInputError naming each that is not there or cannot be used; no value is ever in it.
    """
    values, complaints = {}, []
    for name, ref in plan.secrets.items():
        try:
            values[name] = _value(ref, directory, environment)
        except ValueError as error:
            complaints.append(f"{name}: {error}")
    if complaints:
        raise InvalidInputError(
            "secrets of the plan cannot be used",
            details="\n".join(complaints),
            resolution="Set them where you submit the batch.",
        )
    return values


def _value(ref: SecretRef, directory: Path, environment: Mapping[str, str]) -> str:
    if ref.env is not None:
        if ref.env not in environment:
            raise ValueError(f"{ref.env} is not set")
        value = environment[ref.env]
    else:
        try:
            with (directory / str(ref.file)).open("rb") as file:
                value = file.read(MAX_SECRET_BYTES + 1).decode(errors="surrogateescape").removesuffix("\n")
        except OSError as error:
            raise ValueError(f"{ref.file}: {error.strerror}") from None
    if len(value.encode(errors="surrogateescape")) > MAX_SECRET_BYTES:
        raise ValueError(f"is more than {MAX_SECRET_BYTES // 1024} KiB")
    if "\0" in value:
        raise ValueError("must not have a NUL in it")
    if max((len(line.strip()) for line in value.splitlines()), default=0) < MIN_SECRET:
        raise ValueError(
            f"must have {MIN_SECRET} letters at least in one of its lines, or it cannot be masked"
        )
    return value
