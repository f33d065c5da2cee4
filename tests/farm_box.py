"""A farm in a box: real services, in directories and a network of their own, with the machine's images."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import pytest
from netns import inside, new_network
from uid_range import own_uids

from banger.connection import connect
from banger.contracts.broker import Role
from banger.contracts.errors import BangerError, NotFoundError
from banger.contracts.journal import leases_key, name_key
from banger.contracts.names import BRIDGE, HostPaths
from banger.embedded import control, credentials
from banger.embedded.plan import Plan
from banger.farm import Farm
from banger.images.catalogue import Catalogue
from banger.records import Records
from banger.settings import Settings, load_settings
from banger.submission import Submission

DEADLINE_S = 30.0
BANGER = "import sys; from banger.cli import main; raise SystemExit(main())"
THIEF = "thief"  # the name of connections whose refusals are what their test is about

T = TypeVar("T")
Change = Callable[[Plan], Plan]


def eventually(condition: Callable[[], T], deadline_s: float = DEADLINE_S) -> T:
    """Return the condition's first truthy value; fail when the deadline passes."""
    deadline = time.monotonic() + deadline_s
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.02)
    return value


def await_stage(submission: Submission, farm: Farm, stage: str) -> None:
    """Wait until a stage of the submission has started."""
    read, vm_id = farm.events.read, submission.vm_id
    eventually(lambda: any((e.stage, e.kind) == (stage, "started") for e in read(vm_id)))


@dataclass(frozen=True)
class Box:
    """A farm of one host. What a test starts must be started inside ``network``."""

    root: Path
    network: int
    settings: Settings
    farm: Farm
    change: Change

    @property
    def paths(self) -> HostPaths:
        return self.settings.paths

    def up(self) -> None:
        """Start the services, as ``banger farm up`` does, and wait until both queues are served."""
        with pytest.MonkeyPatch.context() as patch:
            planned = control.farm_plan
            patch.setattr(control, "farm_plan", lambda *given: self.change(planned(*given)))
            control.up(self.settings)
        queues = (f"banger.{side}.{self.settings.host}" for side in ("root", "work"))
        for queue in queues:
            eventually(lambda queue=queue: self.farm.records.serving(queue))

    @property
    def environment(self) -> dict[str, str]:
        """What a command needs to find this farm, and nothing of ours."""
        return {
            "BANGER_HOST": self.settings.host,
            "BANGER_STATE_DIR": str(self.settings.state_dir),
            "BANGER_RUN_DIR": str(self.settings.run_dir),
            "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
            "HOME": str(self.root),
        }

    def banger(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a banger command to its end."""
        argv = (sys.executable, "-c", BANGER, *words)
        return subprocess.run(
            argv,
            env=self.environment,
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE_S,
        )

    def url(self, role: Role) -> str:
        """Return the URL by which a role reaches the box's Redis."""
        known = credentials.load(self.settings.farm_file)
        assert known is not None
        return known.url(role)

    @cached_property
    def admin(self) -> Records:
        """The farm's memory, for tests that write what no role of the farm's own may."""
        return Records(connect(self.url("admin")))

    def denied(self) -> list[str]:
        """Return what Redis has refused to the farm's own users so far, one line each."""
        return [
            f"{one['username']}: {one['reason']} {one['object']} ({one['context']})"
            for one in self.admin.redis.acl_log()
            if one["client-info"]["name"] != THIEF
            and one["object"] != "client|setinfo"  # from Redis 7.2 on; redis-py takes no notice
        ]

    def pid(self, service: str) -> int:
        """Return a service's process."""
        found = next(one.pid for one in control.status(self.settings).services if one.name == service)
        assert found is not None
        return found

    def traces(self) -> set[str]:
        """Return all that VMs have, or had and left, on this host and in the farm's memory."""
        return {*self._files(), *self._devices(), *self.in_kernel(), *self._memory()}

    def in_kernel(self) -> set[str]:
        """Return the part of that which no reboot leaves, and which is there without a farm."""
        return {*self._network(), *self._processes()}

    def _files(self) -> Iterator[str]:
        for directory in (self.paths.vms, self.paths.registry, self.paths.jails):
            for path in directory.iterdir():
                if not path.name.startswith(".") and path.name != "lost+found":
                    yield f"file {path}"

    def _devices(self) -> Iterator[str]:
        for path in Path("/sys/block").glob("loop*/loop/backing_file"):
            if str(self.paths.vms) in (backing := path.read_text().strip()):
                yield f"{path.parts[3]} of {backing}"
        for line in Path("/proc/self/mounts").read_text().splitlines():
            if f"{self.paths.vms}/" in line:
                yield f"mount {line}"

    def _network(self) -> Iterator[str]:
        """Yield links and rules, without the bridge and what else is the farm's and no VM's."""
        for link in answer("ip", "-j", "link"):
            if link["ifname"] not in ("lo", BRIDGE):
                yield f"link {link['ifname']}"
        for neighbour in answer("ip", "-j", "neigh"):
            if "PERMANENT" in neighbour["state"]:  # the others are the kernel's own, for a while
                yield f"neighbour {neighbour['dst']}"
        for item in answer("nft", "-j", "list", "ruleset")["nftables"]:
            if item.get("chain", {}).get("name", "").startswith("bgr-"):
                yield f"nft chain {item['chain']['name']}"
            for element in item.get("map", {}).get("elem", []):
                yield f"nft map element {element}"

    def _processes(self) -> Iterator[str]:
        base = self.settings.uid_base
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                uid = int((path / "status").read_text().partition("\nUid:")[2].split(maxsplit=1)[0])
                if base <= uid < base + 1000 and (argv := (path / "cmdline").read_text()):
                    yield f"process {path.name} of uid {uid}: {argv[:80]}"

    def _memory(self) -> Iterator[str]:
        client: Any = self.farm.redis
        for key in client.scan_iter(match=f"{name_key('')}*"):
            yield f"name {key}"
        for vm_id, lease in client.hgetall(leases_key(self.settings.host)).items():
            yield f"lease {vm_id} {lease}"


def answer(*argv: str) -> Any:
    """Return what a tool says in JSON."""
    said = subprocess.run(argv, capture_output=True, check=True).stdout
    return json.loads(said or b"[]")


def as_planned(plan: Plan) -> Plan:
    """Change nothing."""
    return plan


def without_flower(plan: Plan) -> Plan:
    """Leave out what no test of pipelines looks at, and what takes the longest to start."""
    services = tuple(service for service in plan.services if service.name != "flower")
    order = (tuple(name for name in group if name != "flower") for group in plan.stop_order)
    return plan.model_copy(
        update={"services": services, "stop_order": tuple(group for group in order if group)}
    )


@contextlib.contextmanager
def bare(_root: Path) -> Iterator[None]:
    """Put nothing into a box's directory."""
    yield


@contextlib.contextmanager
def farm_box(
    *images: str,
    change: Change = as_planned,
    owner: str = "root",
    furnish: Callable[[Path], contextlib.AbstractContextManager[None]] = bare,
    **settings: Any,
) -> Iterator[Box]:
    """Yield a running farm with these images; skip the test where this machine has not built them.

    The caller stays in its own network: see ``inside``. ``furnish`` prepares the directory for as long as the
    box is there.
    """
    with contextlib.ExitStack() as stack:
        root = stack.enter_context(_shared_directory())
        made = Settings(
            host="box",
            state_dir=root / "state",
            run_dir=root / "run",
            redis_port=0,
            flower_port=0,
            owner=owner,
            uid_base=stack.enter_context(own_uids()),
            **settings,
        )
        stack.enter_context(furnish(root))
        network = stack.enter_context(new_network())
        for image in images:
            copy_image(image, made.paths)
        box = Box(root, network, made, Farm(made), change)
        try:
            with inside(network):
                subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
                box.up()
            yield box
            with inside(network):
                assert not box.denied(), "a role of the farm's needs a right that it does not have"
        finally:
            with inside(network):
                delete_all(box)
                control.down(made)


@contextlib.contextmanager
def _shared_directory() -> Iterator[Path]:
    """Yield a directory whose mounts services with a view of their own see too, as hosts have it."""
    root = Path(tempfile.mkdtemp(prefix="banger-test-", dir="/var/tmp"))
    root.chmod(0o711)
    subprocess.run(["mount", "--bind", root, root], check=True)
    subprocess.run(["mount", "--make-shared", root], check=True)
    try:
        yield root
    finally:
        # Lazily: a mount namespace that somebody has made meanwhile may have a copy of what was mounted here.
        subprocess.run(["umount", "--lazy", root], check=True)
        shutil.rmtree(root)


def copy_image(name: str, target: HostPaths) -> None:
    """Copy an image and its kernel from this machine's store into a box's."""
    store = load_settings().paths
    try:
        image = Catalogue(store).resolve(name)
    except NotFoundError:
        pytest.skip(f"this machine has no image {name}; `make test` builds it")
    for source, place in (
        (store.image(image.id), target.image(image.id)),
        (store.kernel(image.kernel), target.kernel(image.kernel)),
    ):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.parents[1].chmod(0o711)
        if not place.exists():
            subprocess.run(["cp", "-a", "--reflink=auto", "--sparse=always", source, place], check=True)


def delete_all(box: Box) -> None:
    """Delete what a failed test has left; the farm is about to be gone, and VMs would outlive it."""
    with contextlib.suppress(BangerError):
        for record in box.farm.list():
            box.farm.delete(record.id)
        box.farm.redis.close()
        box.admin.redis.close()
