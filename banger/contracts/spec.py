"""What a user asks for when asking for a VM."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from banger.contracts.names import VmName
from banger.contracts.requests import Frozen, RateMib, RateOps, SizeMib
from banger.contracts.vmm import WantedVmm


def _label_key(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,62}", text):
        raise ValueError("a label's key is 1 to 63 of A-Z a-z 0-9 . _ / -, beginning with a letter or digit")
    return text


def _label_value(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._:/@+-]{0,63}", text):
        raise ValueError("a label's value is up to 63 of A-Z a-z 0-9 . _ : / @ + -")
    return text


LabelKey = Annotated[str, AfterValidator(_label_key)]
LabelValue = Annotated[str, AfterValidator(_label_value)]


class VmSpec(Frozen):
    """A VM as it was asked for. Sizes in MiB; ``image`` is a name or an id; ``ttl_s`` counts from now.

    ``autostart``: when its host was rebooted while it ran, it is booted again. ``vmm``: what runs it; auto
    leaves that to its host. Rates are limits a second, of each disk and of the network in each direction.
    """

    name: VmName
    image: Annotated[str, StringConstraints(min_length=1, max_length=63)]
    vcpus: Annotated[int, Field(ge=1, le=64)] = 1
    memory_mib: Annotated[int, Field(ge=64, le=1024 * 1024)] = 256
    disk_mib: SizeMib = 8192
    system_overlay_mib: SizeMib = 8192
    nat: bool = False
    dns: Annotated[str, StringConstraints(pattern=r"^[0-9.]{7,15}$")] = "1.1.1.1"
    host: str | None = None
    ttl_s: Annotated[float, Field(gt=0)] | None = None
    ready_timeout_s: Annotated[float, Field(gt=0, le=600)] = 120
    labels: dict[LabelKey, LabelValue] = {}
    ephemeral: bool = False
    autostart: bool = False
    vmm: WantedVmm = "auto"
    disk_rate_mib_s: RateMib | None = None
    disk_ops_s: RateOps | None = None
    net_rate_mib_s: RateMib | None = None
