"""A plan as the YAML that `load.py` would make the same plan of. What is as by default is left out."""

from __future__ import annotations

from typing import Any

import yaml

from banger.batch.plan import Plan
from banger.batch.plan_keys import PLAN
from banger.batch.shapes import Mapping, Parsed
from banger.contracts.sizes import format_mib

_WIDTH = 100


def plan_yaml(plan: Plan) -> str:
    """Return a plan's YAML; the files of its shards, which no file of a plan says, are not in it."""
    data = plan.model_dump(mode="json", exclude={"shard_files"}, exclude_defaults=True, exclude_none=True)
    document = _keys(PLAN, data)
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=_WIDTH)


def _keys(mapping: Mapping, data: dict[str, Any]) -> dict[str, Any]:
    """Return what a model says in the words of its file."""
    return {
        key.name: _value(key.shape, key.target, data[key.target])
        for key in mapping.keys
        if key.target in data
    }


def _value(shape: object, target: str, value: Any) -> Any:
    if isinstance(shape, Mapping):
        return _keys(shape, value)
    if isinstance(shape, Parsed):
        return format_mib(value) if "_mib" in target else _time(value)
    if target == "matrix":
        return value.get("axes", {}) | {key: value[key] for key in ("include", "exclude") if key in value}
    return value


def _time(seconds: float) -> str:
    """Return the shortest exact time, to a microsecond."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.6f}".rstrip("0").rstrip(".") + "s"


class _Dumper(yaml.SafeDumper):
    """Writes commands of several lines as such."""

    def ignore_aliases(self, _data: Any) -> bool:
        return True


def _text(dumper: _Dumper, text: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)
