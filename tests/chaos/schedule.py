"""Operations of several clients on a few VMs, while services and VMMs are killed at random: all by a seed.

The clients are the farm's own API, as the CLI uses it. What they are refused (no such VM, busy, the wrong
state) is as it should be; that nothing is lost or left, and no record untrue, is judged between rounds.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import clock
import slow_disk
from chaos_farm import ChaosFarm, Killed
from checking import delete, delivered_again, leaks, stays
from jobs import STUB
from netns import inside
from recovery import Recoveries
from small_disk import filled
from snapshot import snapshot
from tally import Tally
from truth import recorded, untrue, vmms

from banger.contracts.errors import BangerError
from banger.embedded import control
from banger.events import Events
from banger.farm import Farm

CLIENTS = 8
VMS = 20
OPERATIONS_A_KILL = 2
KILLS_A_ROUND = 25
PROMISED_S = 60.0
_CALM_S = 90.0  # for a round's last jobs
_PAUSE_S = (0.5, 5.0)  # between two kills
_LASTS_S = (1.0, 6.0)  # a full or a slow disk, a wrong clock
_NOTICED_S = 15.0  # that a VMM has died
_BREATH_S = 0.2  # of a client that was refused
_VERBS = {
    "create": 30,
    "create-stopped": 6,
    "start": 12,
    "stop": 10,
    "restart": 10,
    "kill": 4,
    "set": 6,
    "delete": 14,
    "run": 8,
    "cancel": 8,
}
_FAULTS = {
    "worker": 32,
    "root-worker": 32,
    "worker+root-worker": 12,
    "redis": 16,
    "disk": 4,
    "clock": 4,
    "slow": 4,
    "vmm": 8,
}
_STEPS_S = (-3600, -60, 60, 3600)

Say = Callable[[str], None]


class Operation(NamedTuple):
    """What a client does next."""

    verb: str
    name: str
    patience_s: float  # until it cancels, where it is one that does


class Fault(NamedTuple):
    """What happens next, and for how long; ``pause_s`` before it."""

    kind: str
    pause_s: float
    lasts_s: float
    step_s: int


def operations(seed: int, client: int) -> Iterator[Operation]:
    """Yield a client's operations, without an end."""
    chance = random.Random(f"{seed}/client/{client}")
    while True:
        (verb,) = chance.choices(list(_VERBS), list(_VERBS.values()))
        yield Operation(verb, f"chaos-{chance.randrange(VMS):02d}", chance.uniform(0.0, 0.5))


def faults(seed: int) -> Iterator[Fault]:
    """Yield what goes wrong, without an end."""
    chance = random.Random(f"{seed}/faults")
    while True:
        (kind,) = chance.choices(list(_FAULTS), list(_FAULTS.values()))
        yield Fault(kind, chance.uniform(*_PAUSE_S), chance.uniform(*_LASTS_S), chance.choice(_STEPS_S))


class Schedule:
    """One run of it. ``wrong`` has what was not as it is to be, ``tally`` what was done."""

    def __init__(self, farm: ChaosFarm, seed: int, recoveries: Recoveries, say: Say) -> None:
        self._farm = farm
        self._say = say
        self._recoveries = recoveries
        self._orders = [operations(seed, number) for number in range(CLIENTS)]
        self._faults = faults(seed)
        self.tally = Tally()
        self._kills: list[Killed] = []
        self._over = threading.Event()
        self._lock = threading.Lock()
        self.wrong: list[str] = []

    def run(self, kills: int) -> None:
        """Kill so many times, in rounds; after each, everything is deleted and looked at."""
        before = snapshot(self._farm.box)
        while len(self._kills) < kills and len(self.wrong) < 100:
            self._round(min(kills, len(self._kills) + KILLS_A_ROUND), before)
            told = f"{len(self._kills)}/{kills} kills at random, {self.tally.did.total()} operations"
            self._say(f"{told}, {len(self.wrong)} lines of what is wrong")

    def _round(self, kills: int, before: set[str]) -> None:
        self._over.clear()
        began, first = time.time(), len(self._kills)
        clients = [
            threading.Thread(target=self._client, args=(number,), name=f"client-{number}")
            for number in range(CLIENTS)
        ]
        for client in clients:
            client.start()
        try:
            while len(self._kills) < kills or self.tally.did.total() < OPERATIONS_A_KILL * kills:
                self._fault(next(self._faults), enough=len(self._kills) >= kills)
        finally:
            self._over.set()
            for client in clients:
                client.join(_CALM_S)
        if alive := [client.name for client in clients if client.is_alive()]:
            self.wrong.append(f"{', '.join(alive)} still waits for a job")
        self._judge(before)
        self._measure(began, self._kills[first:])

    # --- what goes wrong -------------------------------------------------------------------------

    def _fault(self, fault: Fault, *, enough: bool) -> None:
        time.sleep(fault.pause_s)
        if fault.kind == "disk":
            self.tally.happened["full disks"] += 1
            with filled(self._farm.box.settings.state_dir):
                time.sleep(fault.lasts_s)
        elif fault.kind == "slow":
            self.tally.happened["slow disks"] += 1
            slow_disk.slow(self._farm.slowness, slow_disk.LONGEST_S)
            time.sleep(fault.lasts_s)
            slow_disk.slow(self._farm.slowness, 0)
        elif fault.kind == "vmm":
            if living := vmms(self._farm.box):
                self.tally.happened["kills of a VMM"] += 1
                with contextlib.suppress(ProcessLookupError):
                    os.kill(living[int(fault.lasts_s * 1000) % len(living)], signal.SIGKILL)
        elif fault.kind == "clock":
            self.tally.happened["clock steps"] += 1
            clock.step(self._farm.clock, fault.step_s)
            time.sleep(fault.lasts_s)
            clock.step(self._farm.clock, 0)
        elif not enough:
            services = fault.kind.split("+")
            if stays(lambda: sorted(set(services) - self._farm.pids().keys()), PROMISED_S):
                raise AssertionError(f"not back after a minute: {control.status(self._farm.box.settings)}")
            self._kills.append(self._farm.kill(*services))
            self.tally.kills += 1
            self.tally.happened[f"kills of {' and '.join(services)}"] += 1

    # --- what is done ----------------------------------------------------------------------------

    def _client(self, number: int) -> None:
        with inside(self._farm.box.network):
            farm = Farm(self._farm.box.settings)
            while not self._over.is_set():
                operation = next(self._orders[number])
                try:
                    _carry_out(farm, operation)
                    outcome = "done"
                except BangerError as error:
                    outcome = type(error).__name__.removesuffix("Error").lower()
                    self._over.wait(_BREATH_S)
                except Exception as error:
                    outcome = "broken"
                    self.wrong.append(f"a client broke in {operation}: {error!r}")
                with self._lock:
                    self.tally.did[operation.verb, outcome] += 1
            farm.redis.close()

    # --- what came of it -------------------------------------------------------------------------

    def _judge(self, before: set[str]) -> None:
        farm, admin = self._farm, self._farm.box.admin
        farm.wait_until_up({})
        self.wrong += delivered_again(farm)  # a create that was killed before it began is carried out then
        late = stays(lambda: [r.name for r in admin.all() if r.job], _CALM_S)
        self.wrong += [f"{name} has a job that does not end" for name in late]
        for record in admin.all():
            if record.name not in late:
                said = stays(
                    lambda vm=record: untrue(farm, vm.id, recorded(farm, vm.id), None),  # type: ignore[misc]
                    _NOTICED_S,
                )
                self.wrong += [f"{record.name} ({record.id}): {line}" for line in said]
        self.wrong += [f"the command of {vm_id} ran more than once" for vm_id in farm.ran_twice()]
        self.wrong += delete(farm, [record.id for record in admin.all()])
        self.wrong += leaks(farm, before)
        for line in self.wrong[-5:]:
            self._say(f"BAD {line}")

    def _measure(self, since: float, kills: list[Killed]) -> None:
        """Note how long each job took from the last kill in its life to its end."""
        began: dict[str, float] = {}
        for event in Events(self._farm.box.admin.redis).read():
            if event.at < since or not event.job:
                continue
            began.setdefault(event.job, event.at)
            hits = [kill for kill in kills if began[event.job] < kill.at < event.at]
            if event.kind == "settled" and hits:
                took, kind = event.at - hits[-1].at, " and ".join(hits[-1].services)
                self._recoveries.add(f"at random: {kind}", took)
                if took > PROMISED_S:
                    self.wrong.append(
                        f"{event.pipeline} of {event.vm} ended {took:.0f} s after a kill of {kind}"
                    )


def _carry_out(farm: Farm, operation: Operation) -> None:
    verb, name = operation.verb, operation.name
    if verb in ("create", "create-stopped"):
        farm.create(name, start=verb == "create", **STUB)
    elif verb == "cancel":
        submission = farm.submit_create(farm.spec(name, **STUB))
        time.sleep(operation.patience_s)
        submission.cancel()
        submission.wait()
    elif verb == "run":
        farm.run(["true"], timeout_s=60.0, **STUB)
    elif verb == "set":
        farm.set(name, vcpus=2)
    elif verb == "delete":
        farm.delete(name)
    else:
        getattr(farm, verb)(name)
