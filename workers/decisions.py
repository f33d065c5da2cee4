"""What is to be done about what is found on this host. Pure: facts in, findings out.

Where root has not said what there is, or could not read all of it, nothing is removed and nothing is declared
dead: jobs are sent again, and no more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from banger.contracts.inventory import Found, FoundVm, Inventory
from banger.contracts.states import State
from banger.findings import UNKEPT, Action, Finding
from banger.pipelines import DELETE, PIPELINES, SWEEP
from banger.records import UNKNOWN, Job, Record
from workers.rings import NOBODY, Processes

_STILL_S = 30.0
_MOST_DOUBLINGS = 5  # a quarter of an hour
_TRY_AGAIN_S = 600.0
_UNCLEAR = "its intent file cannot be read, or is another host's"


@dataclass(frozen=True)
class Facts:
    """What is known of one host at one moment (``now`` in epoch seconds of Redis).

    ``records`` are this host's by VM id, ``others`` the VMs of other hosts, ``jobs`` those that are going on,
    by their id, and ``last_steps`` which steps end that of a VM whose intent is younger. ``quiet_s`` says of
    VMs in error for how long nothing has happened to them, ``over`` names those that were a batch's, and that
    it has no use for any more. ``intents``, ``directories`` (of VMs) and
    ``removed`` (ones half gone) are the host's files, and ``unclear`` VMs whose intent file cannot be read,
    or is another host's. ``living`` are the incarnations of both workers, None where root's is not known.
    ``boot`` is the host's, and ``rebooted``: it was, and what ran then is not dealt with yet.
    """

    now: float
    records: Mapping[str, Record]
    jobs: Mapping[str, Job] = field(default_factory=dict)
    last_steps: Mapping[str, Collection[str]] = field(default_factory=dict)
    quiet_s: Mapping[str, float] = field(default_factory=dict)
    over: Collection[str] = ()
    others: Collection[str] = ()
    intents: Mapping[str, Record] = field(default_factory=dict)
    unclear: Collection[str] = ()
    directories: Collection[str] = ()
    removed: Collection[str] = ()
    inventory: Inventory | None = None
    living: Collection[str] | None = None
    processes: Processes = NOBODY
    somebody_died: bool = False
    boot: str = ""
    rebooted: bool = False

    @property
    def blind(self) -> bool:
        """Tell whether something may be there that is not told."""
        return self.inventory is None or bool(self.inventory.unreadable)

    def seen(self, vm_id: str) -> FoundVm | None:
        """Return the VM as root's registry knows it."""
        return self.registered.get(vm_id)

    @cached_property
    def registered(self) -> Mapping[str, FoundVm]:
        """The VMs in root's registry, by their ids."""
        return {vm.vm_id: vm for vm in self.inventory.vms} if self.inventory else {}

    @property
    def slots(self) -> set[int | None]:
        """The slots of the VMs in root's registry."""
        return {vm.slot for vm in self.registered.values()}

    def strays(self, vm_id: str) -> list[Found]:
        """Return what is on the host of a VM that is not in root's registry; ``""``: what tells no VM."""
        return [one for one in self.inventory.strays if (one.vm_id or "") == vm_id] if self.inventory else []


def decide(facts: Facts) -> list[Finding]:
    """Return what is not as it should be, and what to do about each."""
    return [
        *(finding for record in facts.records.values() for finding in _of_record(record, facts)),
        *_without_record(facts),
        *_strange(facts),
    ]


def stands_still(
    job: Job, now: float, living: Collection[str] | None = None, *, at_once: bool = False
) -> bool:
    """Tell whether nobody works at the job: no live claim, and nothing written for half a minute.

    A claim lives no longer than its worker: ``living`` are the incarnations of both, None where root's is
    not known. Each ring that nothing came of doubles the half minute: where the job's message is not lost
    but waits behind many others, more messages would make it wait longer.
    """
    for claim in job.claims:
        holder, until_ms, _ = claim.split("|")
        if int(until_ms) / 1000 > now and (living is None or holder[:12] in living):
            return False
    return at_once or now - job.touched_ms / 1000 > _STILL_S * (1 << min(job.rings, _MOST_DOUBLINGS))


def is_older(record: Record, job: Job | None, intent: Record | None, last_steps: Collection[str]) -> bool:
    """Tell whether a record is an older copy than the one that its host has in its intent file.

    The intent of a VM at rest is written a moment before the job's last step is reported: not older. Nor
    is it where that report never came, or came too late, and the job is unwound: it has two last steps.
    """
    if intent is None or intent.rev <= record.rev:
        return False
    about_to_end = job is not None and any(step in job.steps for step in last_steps)
    return not (about_to_end and intent.job is None and intent.rev == record.rev + 1)


def _of_record(record: Record, facts: Facts) -> Iterator[Finding]:
    job = facts.jobs.get(record.job or "")
    intent = facts.intents.get(record.id)
    expired = record.expires_at is not None and record.expires_at < facts.now
    if is_older(record, job, intent, facts.last_steps.get(record.id, ())):
        if not facts.blind:
            yield _about(record, "Redis has an older copy of it than its host", Action.RESTORE, sure=False)
    elif job is not None:
        if expired and PIPELINES[job.pipeline].cancellable:
            yield _about(record, f"its time to live is over, and a {job.pipeline} has it", Action.CANCEL)
        if job.state == "running" and job.boot not in ("", facts.boot):
            yield _about(record, f"its host was rebooted, and its {job.pipeline} goes on", Action.RING)
        elif stands_still(job, facts.now, facts.living, at_once=facts.somebody_died):
            yield _about(record, f"nobody is at its {job.pipeline}, which is {job.state}", Action.RING)
        elif not facts.blind and _waits_in_vain(job, record.generation, facts.seen(record.id)):
            yield _about(record, "its VMM ended before its guest was ready", Action.FAIL, sure=False)
    elif record.job is not None:
        if not facts.blind:
            yield _about(record, "Redis has forgotten the job that has it", Action.RESTORE, sure=False)
    elif expired and (record.state is not State.ERROR or _tired_of_waiting(record, facts)):
        yield _about(record, "its time to live is over", Action.DELETE)
    elif record.id in facts.over and (record.state is not State.ERROR or _tired_of_waiting(record, facts)):
        yield _about(record, "the batch that it was for has no use for it any more", Action.DELETE)
    elif _was_to_go(record) and _tired_of_waiting(record, facts):
        yield _about(record, "it was to be deleted, and that failed", Action.DELETE)
    elif not facts.blind:
        yield from _at_rest(record, facts)


def _at_rest(record: Record, facts: Facts) -> Iterator[Finding]:
    seen, strays = facts.seen(record.id), facts.strays(record.id)
    there = seen is not None or record.id in facts.directories
    if record.image == UNKNOWN and record.id in facts.unclear:
        yield _about(record, f"{_UNCLEAR}: it is left alone")
    elif strays and _was_adopted(record):
        if record.error is None or _tired_of_waiting(record, facts):
            what = "nobody knew it, and its removal has not begun" + " or has failed" * bool(record.error)
            yield _about(record, what, Action.SWEEP, sure=False)
    elif strays:
        kinds = ", ".join(sorted({one.kind for one in strays}))
        yield _about(record, f"root's registry has forgotten it, and there is its {kinds}: restart it")
    elif record.state is State.LOST and there:
        again = record.id in facts.intents
        yield _about(
            record, "its host has it again", Action.RESTORE if again else Action.NONE, sure=not again
        )
    elif record.slot is None:
        if there:
            yield _about(record, "something is left of it", Action.DELETE, sure=False)
    elif not there:
        yield _about(record, "its host has nothing of it", Action.LOSE, sure=False)
    elif seen and seen.generation > record.generation:
        yield _about(record, "root knows a later start of it than Redis", Action.RESTORE, sure=False)
    elif record.state is State.RUNNING and not (seen and seen.alive and seen.generation == record.generation):
        again = facts.rebooted and record.spec.autostart
        yield _about(record, "its VMM is gone", Action.RESTART if again else Action.KILL, sure=False)
    elif record.state is State.RUNNING and seen and seen.overlay and seen.overlay.state != "ok":
        what = f"its system disk is {seen.overlay.state}, and its guest cannot go on"
        yield _about(record, what, Action.RENEW, sure=False)
    elif record.state is State.STOPPED and seen and seen.alive:
        yield _about(record, "its VMM runs, though it is stopped", Action.RESTORE, sure=False)
    elif record.id not in facts.directories:
        yield _about(record, "its directory is gone, and its disks with it: delete it", sure=False)
    elif record.state is State.RUNNING and seen and not seen.kept:
        yield _about(record, UNKEPT, sure=False)


def _without_record(facts: Facts) -> Iterator[Finding]:
    if facts.blind:
        return
    known = {*facts.records, *facts.others}
    for vm_id in sorted(({*facts.registered} | {*facts.intents, *facts.directories}) - known):
        if vm_id in facts.intents:
            yield Finding(
                vm_id=vm_id,
                name=facts.intents[vm_id].name,
                what="its host has it, and Redis has no record of it",
                action=Action.RESTORE,
                sure=False,
            )
        else:
            what = _UNCLEAR if vm_id in facts.unclear else "something of a VM that nobody knows"
            yield Finding(vm_id=vm_id, what=what, action=Action.RESTORE, sure=False)
    for vm_id in sorted(facts.removed):
        yield Finding(vm_id=vm_id, what="its directory is half removed", action=Action.CLEAR, sure=False)


def _strange(facts: Facts) -> Iterator[Finding]:
    """Yield what no VM of the registry or the records has."""
    if facts.inventory is None:
        yield Finding(what="root has not said what there is: nothing is removed")
        return
    for reason in facts.inventory.unreadable:
        yield Finding(what=f"root cannot tell all that there is, so nothing is removed: {reason}")
    for foreign in facts.inventory.foreign:
        yield Finding(what=f"{foreign.kind} {foreign.name} looks like ours and is not: it is left alone")
    slots = {record.slot for record in facts.records.values()}
    owners: dict[str, list[Found]] = {}
    for stray in facts.inventory.strays:
        owners.setdefault(stray.vm_id or f"?{stray.slot}", []).append(stray)
    for vm_id, strays in sorted(owners.items()):
        if vm_id in facts.records or (vm_id[0] == "?" and strays[0].slot in slots - {None}):
            continue  # said with its record
        what = "nobody knows " + ", ".join(f"{one.kind} {one.name}" for one in strays[:4])
        elsewhere = vm_id in facts.others
        kept = elsewhere or vm_id in facts.directories  # whose files are there is restored, and never swept
        if any(one.kind == "process" and one.slot in slots - {None} for one in strays):
            kept, what = (
                True,
                f"{what}, under the uid of another VM's slot, which would be swept with another",
            )
        can_tell = not facts.blind and not kept and (vm_id[0] != "?" or strays[0].slot is not None)
        yield Finding(
            vm_id=vm_id if vm_id[0] != "?" else "",
            what=what if not elsewhere else f"{what}, of a VM of another host",
            action=Action.SWEEP if can_tell else Action.NONE,
            sure=not can_tell,
        )


def _waits_in_vain(job: Job, generation: int, seen: FoundVm | None) -> bool:
    """Tell whether a job waits for a guest whose VMM is gone, which would be told when its time is over."""
    steps = PIPELINES[job.pipeline].steps.items()
    marks = {row.stage: job.steps.get(step) for step, row in steps if row.direction == "do"}
    waits = job.state == "running" and marks.get("launch") == "done" and marks.get("wait_ready") != "done"
    return waits and seen is not None and not seen.alive and seen.generation == generation


def _was_to_go(record: Record) -> bool:
    return record.state is State.ERROR and (record.error or {}).get("pipeline") == DELETE.name


def _was_adopted(record: Record) -> bool:
    """Tell whether it is a stray's record: its worker may have died before it had the sweep begun."""
    ours = record.error is None or record.error.get("pipeline") == SWEEP.name
    return record.state is State.ERROR and record.image == UNKNOWN and ours


def _tired_of_waiting(record: Record, facts: Facts) -> bool:
    """Tell whether nothing has happened for a while: what failed is not tried all the time."""
    return facts.quiet_s.get(record.id, 0.0) > _TRY_AGAIN_S


def _about(record: Record, what: str, action: Action = Action.NONE, *, sure: bool = True) -> Finding:
    return Finding(vm_id=record.id, name=record.name, rev=record.rev, what=what, action=action, sure=sure)
