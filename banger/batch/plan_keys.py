"""What a plan's YAML file may say, key by key. By this table it is read, and of it the schema is made."""

from __future__ import annotations

from functools import partial
from typing import Any, get_args

import yaml

from banger.batch import plan
from banger.batch.reading import MISSING, Loc, Reading, Schema
from banger.batch.shapes import Boolean, Choice, Integer, Key, Many, MapOf, Mapping, Parsed, Text
from banger.contracts.durations import parse_duration
from banger.contracts.sizes import parse_mib
from banger.contracts.vmm import WantedVmm

_SIZE = Parsed(partial(parse_mib, what=""), r"^\s*[0-9]+(\.[0-9]+)?\s*([MmGgTt]([Ii][Bb])?)?\s*$")
_TIME = Parsed(
    partial(parse_duration, what=""), r"^\s*([0-9]+(\.[0-9]+)?|([0-9]+(\.[0-9]+)?[smhdSMHD])+)\s*$"
)
_VARIABLE = r"^(?!BANGER_)[A-Za-z_][A-Za-z0-9_]*$"
_AXIS = r"^[A-Za-z_][A-Za-z0-9_-]*$"
_SECRET_KEYS = Mapping(
    (
        Key("env", "env", Text(), "A variable of the submitter's environment."),
        Key(
            "file", "file", Text(), "A file on the submitter's side; a relative one in the plan's directory."
        ),
    )
)
_COMBINATIONS = Many(0, plan.MAX_AXIS_VALUES, one_will_do=False, item=MapOf(Text(), _AXIS))
_VALUES = Many(1, plan.MAX_AXIS_VALUES, one_will_do=False, item=Text())
_COMMANDS = Many(0, plan.MAX_COMMANDS)
_PATTERNS = Many(0, plan.MAX_PATTERNS)


class _Secret:
    """``{env: CI_TOKEN}``, ``{file: token.txt}``, or in short ``env:CI_TOKEN``."""

    def read(self, reading: Reading, node: yaml.Node, loc: Loc, words: str) -> Any:
        if not isinstance(node, yaml.ScalarNode):
            return _SECRET_KEYS.read(reading, node, loc, words)
        reference = secret_reference(node.value)
        return (
            reading.complain(loc, "must be like env:VARIABLE or file:PATH")
            if reference is None
            else reference
        )

    def schema(self) -> Schema:
        return {"anyOf": [{"type": "string", "pattern": "^(env|file):.+$"}, _SECRET_KEYS.schema()]}


class _Matrix:
    """Axes by the user's names, and two keys that are none: include and exclude."""

    def read(self, reading: Reading, node: yaml.Node, loc: Loc, words: str) -> Any:
        if not isinstance(node, yaml.MappingNode):
            return reading.complain(loc, "must be a mapping, of lines like `python: [3.11, 3.12]`")
        found: dict[str, Any] = {"axes": {}}
        for name, key_node, value_node in reading.entries(node, loc, words):
            is_axis = name not in ("include", "exclude")
            shape, place = (_VALUES, (*loc, "axes", name)) if is_axis else (_COMBINATIONS, (*loc, name))
            value = reading.read(shape, value_node, place, f"{words}.{name}")
            reading.note_key(key_node, place, f"{words}.{name}")
            if value is not MISSING:
                (found["axes"] if is_axis else found)[name] = value
        return found

    def schema(self) -> Schema:
        combinations = _COMBINATIONS.schema()
        return {
            "type": "object",
            "minProperties": 1,
            "propertyNames": {"pattern": _AXIS},
            "properties": {
                "include": combinations | {"description": "Combinations to add, or values to add to some."},
                "exclude": combinations | {"description": "Combinations to leave out; some axes will do."},
            },
            "additionalProperties": _VALUES.schema(),
        }


class _Split:
    """``junit-times``, with ``split_files`` beside it; or both in a mapping."""

    BY = Choice(("junit-times", "round-robin"))
    KEYS = Mapping(
        (
            Key("by", "by", BY, "By the files' past times, or one after another.", default="junit-times"),
            Key("files", "files", Many(1, plan.MAX_PATTERNS), "Globs of the test files.", needed=True),
        )
    )

    def read(self, reading: Reading, node: yaml.Node, loc: Loc, words: str) -> Any:
        if not isinstance(node, yaml.ScalarNode):
            return self.KEYS.read(reading, node, loc, words)
        by = self.BY.read(reading, node, loc, words)
        return MISSING if by is MISSING else {"by": by}

    def schema(self) -> Schema:
        return {"anyOf": [self.BY.schema(), self.KEYS.schema()]}


_VM = Mapping(
    (
        Key("vcpus", "vcpus", Integer(1, 64), "Virtual processors.", default=1),
        Key("memory", "memory_mib", _SIZE, "Memory; a bare number is MiB.", ("512MiB", "2GiB", 768)),
        Key("disk", "disk_mib", _SIZE, "The work disk, the guest's /root.", ("8GiB",)),
        Key("system_disk", "system_overlay_mib", _SIZE, "Room for changes to the system disk.", ("4GiB",)),
        Key("nat", "nat", Boolean(), "Let the guest reach the internet.", default=False),
        Key("dns", "dns", Text(strictly=True), "The guest's name server.", ("1.1.1.1",)),
        Key("ready_timeout", "ready_timeout_s", _TIME, "How long the guest may take to boot.", ("2m",)),
        Key(
            "vmm",
            "vmm",
            Choice(get_args(WantedVmm)),
            "What runs it; with auto its host decides.",
            default="auto",
        ),
        Key("disk_rate", "disk_rate_mib_s", _SIZE, "What each disk moves a second at most.", ("50MiB",)),
        Key(
            "disk_ops",
            "disk_ops_s",
            Integer(1, 100_000_000),
            "Operations of each disk a second at most.",
            (1000,),
        ),
        Key(
            "net_rate",
            "net_rate_mib_s",
            _SIZE,
            "What it sends, and receives, a second at most (Firecracker only).",
            ("10MiB",),
        ),
    )
)
_RETRIES = Mapping(
    (
        Key("infra", "infra", Integer(0, 5), "Attempts more where banger failed the job.", default=1),
        Key("test", "test", Integer(0, 5), "Attempts more where the job's command failed.", default=0),
    )
)

SPLIT_FILES = "split_files"
"""The one key that is no field of the model: the files of a ``split`` that is a single word."""

PLAN = Mapping(
    (
        Key(
            "name",
            "name",
            Text(strictly=True),
            f"The batch's name: up to {plan.MAX_NAME} of a-z, 0-9 and -. Past times are kept by it.",
            ("unit-tests",),
            needed=True,
        ),
        Key("image", "image", Text(strictly=True), "The image's name or id.", ("debian",), needed=True),
        Key("vm", "vm", _VM, "The VM of each job; what is not said is the farm's default."),
        Key(
            "matrix",
            "matrix",
            _Matrix(),
            "Axes whose values are combined, each with each. Axes named image, vcpus, memory, disk and nat "
            "change the VM; each is told to the job as BANGER_MATRIX_NAME.",
            ({"python": ["3.11", "3.12"], "exclude": [{"python": "3.11"}]},),
        ),
        Key("count", "count", Integer(1, plan.MAX_JOBS), "Copies of each combination.", default=1),
        Key(
            "shards",
            "shards",
            Integer(1, plan.MAX_JOBS),
            "Parts of each combination: BANGER_SHARD is from 1 to BANGER_SHARDS.",
            (4,),
        ),
        Key(
            "split",
            "split",
            _Split(),
            "How test files are laid out over the shards, as BANGER_SHARD_FILES.",
            ("junit-times", {"by": "round-robin", "files": ["tests/**/test_*.py"]}),
        ),
        Key(
            SPLIT_FILES,
            SPLIT_FILES,
            Many(1, plan.MAX_PATTERNS),
            "Globs of the test files, where `split` is one word.",
            (["tests/**/test_*.py"],),
        ),
        Key("env", "env", MapOf(Text(), _VARIABLE), "Variables of setup and run.", ({"CI": "1"},)),
        Key(
            "secrets",
            "secrets",
            MapOf(_Secret(), _VARIABLE),
            "Variables whose values are read where the batch is submitted, and masked in logs.",
            ({"TOKEN": "env:CI_TOKEN", "KEY": {"file": "key.pem"}},),
        ),
        Key(
            "upload",
            "upload",
            Many(0, plan.MAX_UPLOAD_PATHS),
            "Paths to copy into `workdir`, relative to the plan's directory; .bangerignore leaves out.",
            (["."], ["src", "tests"]),
        ),
        Key(
            "workdir",
            "workdir",
            Text(strictly=True),
            "The directory in the guest where commands run.",
            default="/root/work",
        ),
        Key("setup", "setup", _COMMANDS, "Shell command lines before `run`.", (["pip install -e ."],)),
        Key(
            "run",
            "run",
            Many(1, plan.MAX_COMMANDS),
            "Shell command lines; the first that fails fails the job.",
            ("make test", ["make build", "make test"]),
            needed=True,
        ),
        Key(
            "artifacts", "artifacts", _PATTERNS, "Globs in `workdir` of files to bring back.", (["logs/**"],)
        ),
        Key("junit", "junit", _PATTERNS, "Globs in `workdir` of JUnit files to merge.", ("reports/*.xml",)),
        Key("timeout", "timeout_s", _TIME, "For setup and run of one job.", ("10m", "1h30m"), "1h"),
        Key("batch_timeout", "batch_timeout_s", _TIME, "For the whole batch.", ("2h",), "24h"),
        Key("retries", "retries", _RETRIES, "How often a job is tried again.", ({"infra": 2, "test": 1},)),
        Key(
            "keep",
            "keep",
            Choice(("never", "on-failure", "always")),
            "Which jobs' VMs stay, to look into them.",
            default="never",
        ),
        Key("keep_ttl", "keep_ttl_s", _TIME, "How long they stay.", ("4h",), "1h"),
        Key(
            "max_parallel",
            "max_parallel",
            Integer(1, plan.MAX_JOBS),
            "Jobs at once, at most; else as many as the farm has room for.",
            (8,),
        ),
        Key(
            "fail_fast", "fail_fast", Boolean(), "Cancel what waits and runs when a job fails.", default=False
        ),
        Key(
            "host",
            "host",
            Text(strictly=True),
            "The host to run on; else each job's is chosen.",
            ("build-1",),
        ),
    )
)


def secret_reference(text: str) -> dict[str, str] | None:
    """Return ``env:VARIABLE`` or ``file:PATH`` in the words of a SecretRef; None where it is neither."""
    kind, colon, name = text.partition(":")
    return {kind: name} if colon and name and kind in ("env", "file") else None
