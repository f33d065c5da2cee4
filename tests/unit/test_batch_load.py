"""Plans from YAML and from flags: what is read, what is complained of and where, and the schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from banger.batch.flags import overridden, plan_from_flags
from banger.batch.load import load_plan, parse_plan, schema
from banger.batch.plan import Plan, SecretRef
from banger.batch.plan_text import plan_yaml
from banger.contracts.errors import InvalidInputError

FULL = """\
# Everything that a plan may say.
name: unit-tests
image: debian
vm:
  vcpus: 2
  memory: 1GiB
  disk: 2048
  system_disk: 4GiB
  nat: on
  dns: 9.9.9.9
  ready_timeout: 3m
  vmm: firecracker
  disk_rate: 50MiB
  disk_ops: 1000
  net_rate: 1GiB
matrix:
  python: [3.9, 3.10, "3.11"]
  mode: [on, 1_000, 0x1F, null, 2026-01-01, =]
  exclude:
    - {python: 3.9}
  include:
    - python: 3.10
      extra: yes
shards: 4
split: junit-times
split_files: ["tests/**/test_*.py"]
env:
  CI: 1
  EMPTY: ""
  TEXT: |
    two
    lines
secrets:
  TOKEN: env:CI_TOKEN
  KEY: {file: secrets/key.pem}
upload: [.]
workdir: /root/src
setup:
  - pip install -e .
run: pytest --junitxml=out.xml $BANGER_SHARD_FILES
artifacts: ["logs/**", out.txt]
junit: out.xml
timeout: 1h30m
batch_timeout: 2h
retries: {infra: 2, test: 1}
keep: on-failure
keep_ttl: 30m
max_parallel: 8
fail_fast: true
host: build-1
"""
SMALLEST = "name: a\nimage: micro\nrun: 'true'\n"


def complaints(text: str | bytes) -> list[str]:
    """Return what is wrong with a plan, a line each, without the file's name."""
    with pytest.raises(InvalidInputError) as caught:
        parse_plan(text.encode() if isinstance(text, str) else text, "p.yaml")
    return [line.removeprefix("p.yaml:") for line in caught.value.details.splitlines()]


def test_a_full_plan_is_read():
    plan = parse_plan(FULL.encode(), "p.yaml")
    assert (plan.vm.memory_mib, plan.vm.disk_mib, plan.vm.system_overlay_mib) == (1024, 2048, 4096)
    assert (plan.vm.nat, plan.vm.ready_timeout_s, plan.timeout_s, plan.keep_ttl_s) == (True, 180, 5400, 1800)
    assert (plan.vm.vmm, plan.vm.disk_rate_mib_s, plan.vm.disk_ops_s) == ("firecracker", 50, 1000)
    assert plan.vm.net_rate_mib_s == 1024
    assert plan.split is not None
    assert (plan.split.by, plan.split.files, plan.shards) == ("junit-times", ("tests/**/test_*.py",), 4)
    assert plan.env == {"CI": "1", "EMPTY": "", "TEXT": "two\nlines\n"}
    assert plan.secrets == {"TOKEN": SecretRef(env="CI_TOKEN"), "KEY": SecretRef(file="secrets/key.pem")}
    assert plan.run == ("pytest --junitxml=out.xml $BANGER_SHARD_FILES",)
    assert (plan.retries.infra, plan.retries.test, plan.fail_fast, plan.host) == (2, 1, True, "build-1")


def test_a_plan_is_written_as_it_is_read():
    plan = parse_plan(FULL.encode(), "p.yaml")
    assert parse_plan(plan_yaml(plan).encode(), "p.yaml") == plan


@pytest.mark.parametrize(
    ("vm", "why"),
    [
        (
            "{vmm: firecraker}",
            "4:11: vm.vmm: must be one of auto, qemu, firecracker; did you mean `firecracker`?",
        ),
        ("{vmm: qemu, net_rate: 5MiB}", "4:5: vm: QEMU does not limit a guest's network. Leave out one"),
        ("{vmm: firecracker, vcpus: 33}", "4:5: vm: Firecracker gives a guest 32 vCPUs at most, not 33."),
        ("{disk_ops: 0}", "4:16: vm.disk_ops: should be greater than or equal to 1"),
        ("{disk_rate: fast}", "4:17: vm.disk_rate: 'fast' is not a size"),
        ("{net_rate: 2TiB}", "4:16: vm.net_rate: should be less than or equal to 1048576"),
    ],
)
def test_what_no_vmm_can_do_is_told_where_it_stands(vm: str, why: str):
    (line,) = complaints(f"{SMALLEST}vm: {vm}\n")
    assert line.startswith(why)


def test_values_of_a_matrix_are_what_was_written():
    matrix = parse_plan(FULL.encode(), "p.yaml").matrix
    assert matrix is not None
    assert matrix.axes == {
        "python": ("3.9", "3.10", "3.11"),
        "mode": ("on", "1_000", "0x1F", "null", "2026-01-01", "="),
    }
    assert matrix.exclude == ({"python": "3.9"},)
    assert matrix.include == ({"python": "3.10", "extra": "yes"},)


def test_a_split_may_be_a_mapping():
    plan = parse_plan(f"{SMALLEST}shards: 2\nsplit: {{by: round-robin, files: t/*.py}}\n".encode(), "p")
    assert plan.split is not None
    assert (plan.split.by, plan.split.files) == ("round-robin", ("t/*.py",))


def test_anchors_may_save_writing():
    plan = parse_plan(f"{SMALLEST}setup: &all [a, b]\nartifacts: *all\n".encode(), "p")
    assert plan.artifacts == ("a", "b")


def test_a_file_is_read_with_its_name_in_complaints(tmp_path: Path):
    file = tmp_path / "plan.yaml"
    file.write_text(SMALLEST)
    assert load_plan(file).name == "a"
    file.write_text("name: a\n")
    with pytest.raises(InvalidInputError, match=r"plan\.yaml:1:1: `run` is missing"):
        load_plan(file)
    with pytest.raises(InvalidInputError, match="No such file"):
        load_plan(tmp_path / "none.yaml")
    with pytest.raises(InvalidInputError, match="Is a directory"):
        load_plan(tmp_path)


def test_all_complaints_come_at_once_in_order():
    assert complaints(
        """\
name: Unit
image: debian
memory: 1GiB
shell: make test
vm:
  memory: big
  vcpus: 99
matrix:
  empty: []
env:
  1A: x
  B:
  C: x
  C: y
keep: sometimes
artifacts: [a, ../x]
timeout: soon
count: "3"
fail_fast: maybe
"""
    ) == [
        "1:1: `run` is missing",
        "1:7: name: a batch's name is 1 to 40 of a-z, 0-9 and -, not beginning or ending with -",
        "3:1: memory: there is no such key; did you mean `vm: {memory: …}`?",
        "4:1: shell: there is no such key",
        "6:11: vm.memory: 'big' is not a size. Write it like 512MiB or 8GiB; a bare number is MiB.",
        "7:10: vm.vcpus: should be less than or equal to 64",
        "9:10: matrix.empty: must have at least 1 of them, not 0",
        "11:3: env.1A: a variable's name is up to 128 of A-Z, a-z, 0-9 and _, not beginning with a digit",
        '12:5: env.B: has no value; an empty one is written ""',
        "14:3: `C` is given twice, first on line 13",
        "15:7: keep: must be one of never, on-failure, always",
        "16:16: artifacts: must not hold `..`",
        "17:10: timeout: 'soon' is not a time. Write it like 90s, 30m, 2h or 1d; a bare number is seconds.",
        "18:8: count: must be a whole number",
        "19:12: fail_fast: must be true or false",
    ]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("name: a\nimage: b\nrun_: x\n", "3:1: run_: there is no such key; did you mean `run`?"),
        (f"{SMALLEST}keep: never-ever\n", "did you mean `never`?"),
        (f"{SMALLEST}vm: {{memori: 1}}\n", "4:6: vm.memori: there is no such key; did you mean `memory`?"),
        (f"{SMALLEST}vm: 3\n", "4:5: vm: must be a mapping, of vcpus, memory"),
        (f"{SMALLEST}matrix: {{}}\n", "4:9: matrix: is empty"),
        (f"{SMALLEST}matrix:\n", "4:8: matrix: must be a mapping"),
        (f"{SMALLEST}matrix: {{a: 1}}\n", "4:13: matrix.a: must be a list"),
        (f"{SMALLEST}matrix: {{a: [[1]]}}\n", "4:14: matrix.a: must be text"),
        (f"{SMALLEST}matrix: {{a: [1, 1]}}\n", "a has the same value twice"),
        (f"{SMALLEST}matrix: {{a-b: [1], a_b: [1]}}\n", "both BANGER_MATRIX_A_B"),
        (f"{SMALLEST}matrix: {{1a: [1]}}\n", "4:10: matrix.1a: an axis' name"),
        (f"{SMALLEST}matrix: {{a: [1], exclude: [{{b: 1}}]}}\n", "names b, which is no axis"),
        (f"{SMALLEST}matrix: {{a: &a [1, *a]}}\n", "4:13: matrix.a: contains itself"),
        (f"{SMALLEST}matrix: &m {{a: *m}}\n", "4:9: matrix.a: contains itself"),
        (f"{SMALLEST}matrix: {{include: &i [*i]}}\n", "matrix.include: contains itself"),
        (f"{SMALLEST}env: {{? [a] : b}}\n", "4:9: env: a key must be text"),
        (f"{SMALLEST}env: {{BANGER_X: b}}\n", "banger's own"),
        (f"{SMALLEST}env: !!python/object:os.system {{}}\n", "tags are not read"),
        (f"{SMALLEST}env: {{A: !!binary aGk=}}\n", "has the tag binary"),
        (f"{SMALLEST}<<: {{host: a}}\n", "4:1: `<<` is not read"),
        (f"{SMALLEST}env: {{T: x}}\nsecrets: {{T: env:X}}\n", "5:10: secrets: T must not be in `env` too"),
        (f"{SMALLEST}secrets: {{T: hunter2}}\n", "4:14: secrets.T: must be like env:VARIABLE or file:PATH"),
        (f"{SMALLEST}secrets: {{T: {{}}}}\n", "secrets.T: must name exactly one of env and file"),
        (f"{SMALLEST}secrets: {{T: {{env: A-B}}}}\n", "4:20: secrets.T.env: a variable's name"),
        (f"{SMALLEST}count: 2\nshards: 2\n", "5:9: shards: must not stand beside `count`"),
        (f"{SMALLEST}count: 0\n", "4:8: count: should be greater than or equal to 1"),
        (f"{SMALLEST}count: 100000\n", "4:8: count: should be less than or equal to 10000"),
        (f"{SMALLEST}count: 1:30\n", "4:8: count: must be a whole number"),
        (f"{SMALLEST}split: junit-times\nsplit_files: a\n", "4:8: split: needs `shards`"),
        (f"{SMALLEST}shards: 2\nsplit: junit-times\n", "5:8: split: needs `split_files`"),
        (f"{SMALLEST}shards: 2\nsplit: junit\nsplit_files: a\n", "did you mean `junit-times`?"),
        (f"{SMALLEST}shards: 2\nsplit_files: a\n", "5:14: split_files: needs `split: j"),
        (f"{SMALLEST}shards: 2\nsplit: {{files: a}}\nsplit_files: a\n", "not stand beside `split.files`"),
        (f"{SMALLEST}shards: 2\nsplit: {{}}\n", "split: needs `split_files`"),
        (f"{SMALLEST}shards: 2\nsplit: round-robin\nsplit_files: [a, /b]\n", "6:18: split_files: must be"),
        (f"{SMALLEST}shard_files: [[a]]\n", "4:1: shard_files: there is no such key"),
        (f"{SMALLEST}upload: ../x\n", "4:9: upload: must not hold `..`"),
        (f"{SMALLEST}workdir: /etc\n", "4:10: workdir: must be below one of /root"),
        (f"{SMALLEST}timeout: 8d\n", "4:10: timeout: should be less than or equal to 86400"),
        ("- a\n", "1:1: must be a mapping, of name, image"),
        ("", "1:1: is empty"),
        ("# nothing\n", "1:1: is empty"),
        ("name: a\n---\nname: b\n", "2:1: expected a single document"),
        ("name: [a\n", "2:1: while parsing a flow sequence"),
        ("name:\n\ta: b\n", "2:1: while scanning for the next token"),
        ("name: *a\n", "1:7: found undefined alias 'a'"),
        ("name: a\x07\n", "1:8: has a control character"),
        (b"name: a\nimage: \xff\n", "2:8: is not UTF-8"),
        (r'name: "\UFFFFFFFF"', "has an escape that is no character"),
        (r'name: "\U00110000"', "has an escape that is no character"),
        (SMALLEST + r'env: {A: "\ud800"}', "4:10: env.A: has a surrogate"),
        (SMALLEST + r'env: {"\ud800": a}', "4:6: env: a variable's name"),
        (SMALLEST + r'"a\e[31m\n": x', r"4:1: a\x1b[31m\n: there is no such key"),
        (f"{SMALLEST}? {'k' * 5000}\n: x", "k…"),
        ("[" * 100_000, "1:33: more than 20000 values, or nested deeper than 32"),
        ("run: [" + "a, " * 20_000 + "]", "more than 20000 values"),
    ],
)  # fmt: skip
def test_each_complaint_says_where_and_why(text: str | bytes, complaint: str):
    assert complaint in "\n".join(complaints(text))


def test_a_complaint_is_not_repeated_by_what_follows_from_it():
    assert complaints("name: a\nimage: b\nrun: {}\n") == ["3:6: run: must be a list"]


def test_aliases_that_multiply_are_refused():
    bomb = "\n".join(f"x{n + 1}: &x{n + 1} [{', '.join([f'*x{n}'] * 100)}]" for n in range(4))
    assert len(complaints(f"{SMALLEST}x0: &x0 [a]\n{bomb}\n")) == 5
    wide = ", ".join(f"a{number}: 1" for number in range(200))
    text = f"{SMALLEST}matrix:\n  include: [&i {{{wide}}}, {', '.join(['*i'] * 200)}]"
    with pytest.raises(InvalidInputError, match="more than 20000 values"):
        parse_plan(text.encode(), "p")


def test_a_large_file_is_refused_unread(tmp_path: Path):
    file = tmp_path / "plan.yaml"
    file.write_bytes(b"#" * (1024 * 1024 + 1))
    with pytest.raises(InvalidInputError, match="larger than 1024 KiB"):
        load_plan(file)


def test_many_complaints_are_cut():
    keys = "".join(f"nothing{n}: x\n" for n in range(100))
    assert complaints(f"{SMALLEST}{keys}")[-1] == "and 60 more"


def is_plan_or_complaint(text: bytes) -> bool:
    try:
        return isinstance(parse_plan(text, "p"), Plan)
    except InvalidInputError as error:
        return error.details.startswith("p:")


@given(st.text(max_size=200))
def test_whatever_is_read_is_a_plan_or_a_complaint(text: str):
    assert is_plan_or_complaint(text.encode("utf-8", "surrogatepass"))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "env", "by"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from([*schema()["properties"], "other"]), VALUES, max_size=6))
def test_whatever_the_keys_hold_is_a_plan_or_a_complaint(data: dict[str, Any]):
    assert is_plan_or_complaint(yaml.safe_dump(data).encode())


def test_the_schema_is_one_and_takes_what_we_take():
    jsonschema.Draft202012Validator.check_schema(schema())
    assert json.loads(json.dumps(schema())) == schema()
    full = yaml.safe_load(FULL.replace(", null, 2026-01-01, =", ""))
    jsonschema.Draft202012Validator(schema()).validate(full)
    jsonschema.Draft202012Validator(schema()).validate(yaml.safe_load(SMALLEST))


@pytest.mark.parametrize(
    "more", ["other: 1", "count: 0", "keep: sometimes", "timeout: soon", "env: {1A: x}", "vm: {memory: big}",
             "secrets: {T: hunter2}", "split: {by: round-robin}", "matrix: {}", "run: []"]
)  # fmt: skip
def test_the_schema_refuses_what_we_refuse(more: str):
    text = f"name: a\nimage: micro\nrun: x\n{more}\n"
    validator = jsonschema.Draft202012Validator(schema())
    assert not validator.is_valid(yaml.safe_load(text))
    with pytest.raises(InvalidInputError):
        parse_plan(text.encode(), "p")


def test_the_schema_s_examples_are_plans():
    keys = schema()["properties"]
    assert all(key["description"] for key in keys.values())
    beside = {"split": "split_files: a\nshards: 2\n", "split_files": "split: junit-times\nshards: 2\n"}
    for name, key in keys.items():
        for example in [*key.get("examples", []), *([key["default"]] if "default" in key else [])]:
            jsonschema.Draft202012Validator(key).validate(example)
            data: dict[str, Any] = yaml.safe_load(SMALLEST) | {name: example}
            more = "" if isinstance(example, dict) and "files" in example else beside.get(name, "")
            more = "shards: 2\n" if name == "split" and not more else more
            parse_plan((yaml.safe_dump(data) + more).encode(), "p")


def test_flags_alone_make_a_plan():
    plan = plan_from_flags(
        image="micro",
        argv=["sh", "-c", "exit 3"],
        count=20,
        vcpus=2,
        memory="1.5GiB",
        disk="512",
        nat=True,
        vmm="firecracker",
        disk_rate="50MiB",
        disk_ops=1000,
        net_rate="1GiB",
        env=["A=1=2", "B="],
        secrets=["TOKEN=env:CI_TOKEN", "KEY=file:a=b.pem"],
        upload=["src"],
        artifacts=["logs/**"],
        junit=["out.xml"],
        timeout="10m",
        retries="test=2",
        keep="on-failure",
        max_parallel=4,
        fail_fast=True,
        host=None,
        setup=[],
    )
    assert plan == Plan.model_validate(
        {
            "name": "micro",
            "image": "micro",
            "run": ["sh -c 'exit 3'"],
            "count": 20,
            "vm": {"vcpus": 2, "memory_mib": 1536, "disk_mib": 512, "nat": True, "vmm": "firecracker"}
            | {"disk_rate_mib_s": 50, "disk_ops_s": 1000, "net_rate_mib_s": 1024},
            "env": {"A": "1=2", "B": ""},
            "secrets": {"TOKEN": {"env": "CI_TOKEN"}, "KEY": {"file": "a=b.pem"}},
            "upload": ["src"],
            "artifacts": ["logs/**"],
            "junit": ["out.xml"],
            "timeout_s": 600,
            "retries": {"test": 2},
            "keep": "on-failure",
            "max_parallel": 4,
            "fail_fast": True,
        }
    )


def test_flags_go_over_a_file_s_plan():
    plan = parse_plan(FULL.encode(), "p")
    assert overridden(plan) == plan
    changed = overridden(
        plan,
        image="micro",
        memory="2GiB",
        env=["CI=2"],
        junit=["out.xml", "more.xml"],
        retries="0",
        argv=["true"],
        timeout="5",
        nat=False,
        fail_fast=False,
    )
    assert (changed.image, changed.vm.memory_mib, changed.vm.vcpus, changed.vm.nat) == (
        "micro",
        2048,
        2,
        False,
    )
    assert (changed.env["CI"], changed.env["EMPTY"]) == ("2", "")
    assert changed.junit == ("out.xml", "more.xml")
    assert (changed.retries.infra, changed.retries.test) == (0, 1)
    assert (changed.run, changed.timeout_s, changed.fail_fast) == (("true",), 5, False)
    assert changed.matrix == plan.matrix


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        ({"image": None}, "needs an image"),
        ({"argv": []}, "needs a command"),
        ({"env": ["A"]}, "--env is not K=V"),
        ({"env": ["=x"]}, "--env is not K=V"),
        ({"secrets": ["T=hunter2"]}, "secret T is not NAME=env:VARIABLE"),
        ({"secrets": ["T=env:"]}, "secret T is not NAME=env:VARIABLE"),
        ({"memory": "big"}, "memory 'big' is not a size"),
        ({"vmm": "xen"}, "vm.vmm: should be 'auto', 'qemu' or 'firecracker'"),
        ({"vmm": "qemu", "net_rate": "5MiB"}, "vm: QEMU does not limit a guest's network"),
        ({"net_rate": "fast"}, "net rate 'fast' is not a size"),
        ({"disk_ops": 0}, "vm.disk_ops_s: should be greater"),
        ({"batch_timeout": "soon"}, "batch timeout 'soon' is not a time"),
        ({"retries": "-1"}, "retries '-1' are not a number"),
        ({"retries": "infra=1,2"}, "are not a number"),
        ({"retries": "9"}, "retries.infra: should be less than or equal to 5"),
        ({"count": 0}, "count: should be greater"),
        ({"keep": "sometimes"}, "keep: should be 'never'"),
        ({"name": "A"}, "name: a batch's name"),
        ({"env": ["A=\udcff"]}, "env"),
    ],
)
def test_flags_that_are_wrong_are_named(flags: Any, why: str):
    with pytest.raises(InvalidInputError) as caught:
        plan_from_flags(**{"image": "micro", "argv": ["true"], **flags})
    assert why in str(caught.value)
    assert "hunter2" not in str(caught.value)
