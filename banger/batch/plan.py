"""What a batch is asked to be: one image, what to run in each VM, and how many times.

A plan is data that crosses queues and is kept with the batch. So everything in it is bounded, and secrets are
in it by reference only. `load.py` makes plans of YAML and of flags, `expand.py` makes jobs of a plan.
"""

from __future__ import annotations

import posixpath
import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)

from banger.contracts.errors import InvalidInputError
from banger.contracts.names import HostName, is_label
from banger.contracts.requests import Frozen, RateMib, RateOps, SizeMib
from banger.contracts.vmm import WantedVmm
from banger.wanted import refuse_impossible

MAX_JOBS = 10_000
MAX_COMMANDS = 64
MAX_COMMAND_BYTES = 32 * 1024
MAX_ENV = 256
MAX_ENV_VALUE_BYTES = 32 * 1024
MAX_SECRETS = 64
MAX_PATTERNS = 64
MAX_UPLOAD_PATHS = 256
MAX_AXES = 16
MAX_AXIS_VALUES = 256
LAST = "last"  # stands for the youngest batch wherever one is named
MAX_PLAN_BYTES = 256 * 1024  # without the files of its shards
MAX_SHARD_FILES = 50_000
MAX_SHARD_BYTES = 96 * 1024  # one variable holds them; the kernel ends one at 128 KiB
MAX_SHARDS_BYTES = 2 * 1024 * 1024
MAX_NAME = 40

_DAY_S = 24 * 3600
_WORKDIR_TOPS = ("/root", "/home", "/srv", "/tmp", "/var", "/opt")  # noqa: S108 - the guest's
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_RESERVED_AXES = ("include", "exclude")

JobKeep = Literal["never", "on-failure", "always"]


def _batch_name(text: str) -> str:
    if not is_label(text) or len(text) > MAX_NAME:
        raise ValueError(
            f"a batch's name is 1 to {MAX_NAME} of a-z, 0-9 and -, not beginning or ending with -"
        )
    if text == LAST:
        raise ValueError(f"`{LAST}` means the youngest batch, whatever its name is")
    return text


def _variable(text: str) -> str:
    if not re.fullmatch(r"[A-Z_a-z][A-Z_a-z0-9]{0,127}", text):
        raise ValueError("a variable's name is up to 128 of A-Z, a-z, 0-9 and _, not beginning with a digit")
    return text


def _own_variable(text: str) -> str:
    if _variable(text).startswith("BANGER_"):
        raise ValueError("variables that begin with BANGER_ are banger's own")
    return text


def _without_nul(text: str) -> str:
    if "\x00" in text:
        raise ValueError("must not hold a NUL")
    return text


def _bounded(limit: int) -> AfterValidator:
    def check(text: str) -> str:
        if len(text.encode()) > limit:
            raise ValueError(f"must be {limit} bytes at most")
        return text

    return AfterValidator(check)


def _command(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be empty")
    return text


def _word(text: str) -> str:
    if not text or _CONTROL.search(text):
        raise ValueError("must not be empty, nor hold control characters")
    return text


def _below(text: str) -> str:
    """Refuse a path or pattern that could lead out of the directory that it is relative to."""
    if _word(text).startswith("/"):
        raise ValueError("must be relative, so it must not begin with /")
    if ".." in text.split("/"):
        raise ValueError("must not hold `..`")
    return text


def _pattern(text: str) -> str:
    if not set(_below(text).split("/")) - {"", "."}:
        raise ValueError("must name something below the directory")
    return text


def _workdir(path: str) -> str:
    if not re.fullmatch(r"(/[A-Za-z0-9._@+=,:-]+)+", path) or posixpath.normpath(path) != path:
        raise ValueError("must be an absolute path of A-Z a-z 0-9 . _ @ + = , : -, with no `.`, `..` or `//`")
    if not path.startswith(tuple(f"{top}/" for top in _WORKDIR_TOPS)):
        raise ValueError(f"must be below one of {', '.join(_WORKDIR_TOPS)}")
    return path


def _axis(text: str) -> str:
    if text in _RESERVED_AXES:
        raise ValueError(f"{text} is no axis of a matrix")
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]{0,39}", text):
        raise ValueError("an axis' name is up to 40 of A-Z a-z 0-9 _ -, beginning with a letter or _")
    return text


Variable = Annotated[str, AfterValidator(_own_variable)]
Value = Annotated[str, AfterValidator(_without_nul), _bounded(MAX_ENV_VALUE_BYTES)]
Command = Annotated[str, AfterValidator(_without_nul), AfterValidator(_command), _bounded(MAX_COMMAND_BYTES)]
Pattern = Annotated[str, StringConstraints(max_length=256), AfterValidator(_pattern)]
UploadPath = Annotated[str, StringConstraints(max_length=1024), AfterValidator(_below)]
Axis = Annotated[str, AfterValidator(_axis)]
AxisValue = Annotated[str, StringConstraints(max_length=256), AfterValidator(_word)]
Combination = Annotated[dict[Axis, AxisValue], Field(min_length=1, max_length=MAX_AXES)]
ShardFile = Annotated[str, StringConstraints(max_length=1024, pattern=r"^\S+$"), AfterValidator(_below)]
Patterns = Annotated[tuple[Pattern, ...], Field(max_length=MAX_PATTERNS)]
BatchName = Annotated[str, AfterValidator(_batch_name)]


def axis_variable(axis: str) -> str:
    """Return the variable that tells a job its value on this axis: ``BANGER_MATRIX_PYTHON_VERSION``."""
    return f"BANGER_MATRIX_{axis.upper().replace('-', '_')}"


class VmPlan(Frozen):
    """The VM of each job. Sizes in MiB; None stands for the farm's configured default.

    Rates are limits a second, of each disk and of the network in each direction; None is no limit.
    """

    vcpus: Annotated[int, Field(ge=1, le=64)] = 1
    memory_mib: Annotated[int, Field(ge=64, le=1024 * 1024)] | None = None
    disk_mib: SizeMib | None = None
    system_overlay_mib: SizeMib | None = None
    nat: bool = False
    dns: Annotated[str, StringConstraints(pattern=r"^[0-9.]{7,15}$")] | None = None
    ready_timeout_s: Annotated[float, Field(gt=0, le=600)] | None = None
    vmm: WantedVmm = "auto"
    disk_rate_mib_s: RateMib | None = None
    disk_ops_s: RateOps | None = None
    net_rate_mib_s: RateMib | None = None

    @model_validator(mode="after")
    def _is_possible(self) -> VmPlan:
        try:
            refuse_impossible(self.vmm, self.vcpus, limits_network=self.net_rate_mib_s is not None)
        except InvalidInputError as error:
            raise ValueError(f"{error.brief}. {error.resolution}") from None
        return self


class Matrix(Frozen):
    """Axes whose values are combined, each with each; then some are taken out, and some are put in.

    Values are text as it was written: 3.10 is "3.10". `include` and `exclude` mean what they mean on GitHub.
    """

    axes: Annotated[
        dict[Axis, Annotated[tuple[AxisValue, ...], Field(min_length=1, max_length=MAX_AXIS_VALUES)]],
        Field(max_length=MAX_AXES),
    ] = {}
    exclude: Annotated[tuple[Combination, ...], Field(max_length=MAX_AXIS_VALUES)] = ()
    include: Annotated[tuple[Combination, ...], Field(max_length=MAX_AXIS_VALUES)] = ()

    @field_validator("axes")
    @classmethod
    def _values_differ(cls, axes: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for axis, values in axes.items():
            if len(set(values)) != len(values):
                raise ValueError(f"{axis} has the same value twice; `count` makes copies")
        return axes

    @field_validator("exclude")
    @classmethod
    def _exclude_names_axes(
        cls, exclude: tuple[dict[str, str], ...], info: ValidationInfo
    ) -> tuple[dict[str, str], ...]:
        if "axes" not in info.data:  # not valid itself, so there is nothing to hold it against
            return exclude
        for combination in exclude:
            if strange := sorted(combination.keys() - info.data["axes"].keys()):
                raise ValueError(f"names {', '.join(strange)}, which is no axis of the matrix")
        return exclude

    @model_validator(mode="after")
    def _is_unambiguous(self) -> Matrix:
        if not self.axes and not self.include:
            raise ValueError("is empty: it has neither an axis nor an include")
        variables: dict[str, str] = {}
        for axis in (*self.axes, *(axis for combination in self.include for axis in combination)):
            other = variables.setdefault(axis_variable(axis), axis)
            if other != axis:
                raise ValueError(
                    f"has axes {other} and {axis}, which are both {axis_variable(axis)} in a job"
                )
        if len(variables) > MAX_AXES:
            raise ValueError(f"has more than {MAX_AXES} axes, with those of include")
        return self


class Split(Frozen):
    """Test files, by globs relative to the plan's directory, to be laid out over the shards."""

    by: Literal["junit-times", "round-robin"] = "junit-times"
    files: Annotated[tuple[Pattern, ...], Field(min_length=1, max_length=MAX_PATTERNS)]


class SecretRef(Frozen):
    """Where the submitter's side finds a secret: in a variable of its environment or a file. Never itself."""

    env: Annotated[str, AfterValidator(_variable)] | None = None
    file: Annotated[str, StringConstraints(max_length=4096), AfterValidator(_word)] | None = None

    @model_validator(mode="after")
    def _is_one_place(self) -> SecretRef:
        if (self.env is None) == (self.file is None):
            raise ValueError("must name exactly one of env and file")
        return self


class Retries(Frozen):
    """How often a job is tried again: `infra` where banger failed it, `test` where its command failed."""

    infra: Annotated[int, Field(ge=0, le=5)] = 1
    test: Annotated[int, Field(ge=0, le=5)] = 0


class Plan(Frozen):
    """A batch as it was asked for. Times in seconds."""

    name: BatchName
    image: Annotated[str, StringConstraints(min_length=1, max_length=63), AfterValidator(_word)]
    vm: VmPlan = VmPlan()
    matrix: Matrix | None = None
    count: Annotated[int, Field(ge=1, le=MAX_JOBS)] = 1
    """Copies of each combination of the matrix."""
    shards: Annotated[int, Field(ge=1, le=MAX_JOBS)] | None = None
    """Parts of each combination: copies that are told which of them they are, and what files are theirs."""
    split: Split | None = None
    env: Annotated[dict[Variable, Value], Field(max_length=MAX_ENV)] = {}
    secrets: Annotated[dict[Variable, SecretRef], Field(max_length=MAX_SECRETS)] = {}
    upload: Annotated[tuple[UploadPath, ...], Field(max_length=MAX_UPLOAD_PATHS)] = ()
    """Paths relative to the plan's directory."""
    workdir: Annotated[str, StringConstraints(max_length=200), AfterValidator(_workdir)] = "/root/work"
    setup: Annotated[tuple[Command, ...], Field(max_length=MAX_COMMANDS)] = ()
    run: Annotated[tuple[Command, ...], Field(min_length=1, max_length=MAX_COMMANDS)]
    artifacts: Patterns = ()
    junit: Patterns = ()
    timeout_s: Annotated[float, Field(gt=0, le=_DAY_S)] = 3600  # as long as any command may run
    batch_timeout_s: Annotated[float, Field(gt=0, le=30 * _DAY_S)] = _DAY_S
    retries: Retries = Retries()
    keep: JobKeep = "never"
    keep_ttl_s: Annotated[float, Field(gt=0, le=30 * _DAY_S)] = 3600
    max_parallel: Annotated[int, Field(ge=1, le=MAX_JOBS)] | None = None
    fail_fast: bool = False
    host: HostName | None = None
    shard_files: tuple[tuple[ShardFile, ...], ...] = ()
    """The files of each shard, first the first's. The front fills it in from `split`."""

    @field_validator("shards")
    @classmethod
    def _shards_or_count(cls, shards: int | None, info: ValidationInfo) -> int | None:
        if shards is not None and info.data.get("count", 1) != 1:
            raise ValueError("must not stand beside `count`: each of them says how many copies there are")
        return shards

    @field_validator("split")
    @classmethod
    def _split_needs_shards(cls, split: Split | None, info: ValidationInfo) -> Split | None:
        if split is not None and info.data.get("shards", 1) is None:
            raise ValueError("needs `shards`, the number of parts")
        return split

    @field_validator("secrets")
    @classmethod
    def _one_of_env_and_secrets(cls, secrets: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        if both := sorted(secrets.keys() & info.data.get("env", {}).keys()):
            raise ValueError(f"{', '.join(both)} must not be in `env` too")
        return secrets

    @field_validator("shard_files")
    @classmethod
    def _shard_files_fit(
        cls, shards: tuple[tuple[str, ...], ...], info: ValidationInfo
    ) -> tuple[tuple[str, ...], ...]:
        if shards and len(shards) != info.data.get("shards", len(shards)):
            raise ValueError("must have as many parts as there are shards")
        sizes = [sum(len(file.encode()) + 1 for file in files) for files in shards]
        if sum(map(len, shards)) > MAX_SHARD_FILES or sum(sizes) > MAX_SHARDS_BYTES:
            raise ValueError(f"must be {MAX_SHARD_FILES} files and {MAX_SHARDS_BYTES} bytes of names at most")
        if max(sizes, default=0) > MAX_SHARD_BYTES:
            raise ValueError(f"one shard's names are more than {MAX_SHARD_BYTES} bytes; use more shards")
        return shards

    @model_validator(mode="after")
    def _is_bounded(self) -> Plan:
        if len(self.model_dump_json(exclude={"shard_files"})) > MAX_PLAN_BYTES:
            raise ValueError(f"the plan is larger than {MAX_PLAN_BYTES // 1024} KiB; upload what is large")
        return self
