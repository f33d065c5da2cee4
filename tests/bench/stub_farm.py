"""A farm whose VMMs are stubs, for batches that are larger than emulated guests allow."""

from __future__ import annotations

import shutil
from pathlib import Path

from banger.embedded.plan import Plan, Service

_HERE = Path(__file__).parent
_SOURCES = (_HERE / "stub_apps.py", _HERE.parent / "chaos/stub_vmm.py")
_STUBBED = {"workers.app": "stub_apps:work", "root_worker.app": "stub_apps:root"}


def stubbed(plan: Plan, ground: Path) -> Plan:
    """Return the farm's plan with workers that start stubs; what they import is put into ``ground``."""
    apps = ground / "apps"
    apps.mkdir(mode=0o755)
    for source in _SOURCES:
        shutil.copyfile(source, apps / source.name)
        (apps / source.name).chmod(0o644)
    services = tuple(_stubbed(service, apps) for service in plan.services)
    return plan.model_copy(update={"services": services})


def _stubbed(service: Service, apps: Path) -> Service:
    argv = tuple(_STUBBED.get(word, word) for word in service.argv)
    env = service.env | ({"PYTHONPATH": str(apps)} if argv != service.argv else {})
    return service.model_copy(update={"argv": argv, "env": env})
