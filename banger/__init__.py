"""banger: a job-queue worker farm for microVMs.

``from banger import Farm`` gives the Python API. It is resolved lazily, so that importing
``banger.contracts`` (all that the root worker may use) loads nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from banger.farm import Farm

__version__ = "0.1.0"
__all__ = ["Farm", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "Farm":
        from banger.farm import Farm

        return Farm
    raise AttributeError(f"module 'banger' has no attribute {name!r}")
