"""Reconcile: hold what there is against what is intended, and let the ordinary stages make the difference up.

That is looked at when the worker starts, every few seconds, and when somebody asks (``banger reconcile``).
What is gathered stands in ``observation``, what is decided in ``decisions``; here it is done. To send a job's
messages again is safe: a step that is done is passed over, one that is claimed is left to its holder.
"""

from __future__ import annotations

import logging
import shutil
import threading
from typing import TYPE_CHECKING

from banger.contracts.errors import BangerError, StageFailedError
from banger.contracts.names import new_id
from banger.findings import Action, Finding, Report
from banger.pipelines import DELETE, KILL, RESTART, SWEEP
from banger.records import GOING_ON
from workers import intents
from workers.deadlines import enforce_deadline
from workers.decisions import decide
from workers.doubt import Doubt
from workers.observation import observe
from workers.overlays import OverlayAlarm
from workers.restore import CHANGED, adopt, restore_vm

if TYPE_CHECKING:
    from banger.orders import Look
    from workers.decisions import Facts
    from workers.farmhand import Farmhand

log = logging.getLogger("banger.reconcile")

_PATIENCE_S = 30.0  # of somebody who asks: what is doubtful is looked at again within it
_PAUSE_S = 1.0
_BEGINS = {Action.KILL: KILL.name, Action.DELETE: DELETE.name, Action.RENEW: RESTART.name}


class Reconciler:
    """One look at a time, whoever asks; what is doubtful is remembered from one to the next."""

    def __init__(self, farmhand: Farmhand) -> None:
        self._farmhand = farmhand
        self._doubt = Doubt()
        self._overlays = OverlayAlarm(farmhand.records)
        self._one_at_a_time = threading.Lock()

    def look(self, *, act: bool = True) -> Report:
        """Look once, act on what is sure, and return what was found."""
        with self._one_at_a_time:
            facts = observe(self._farmhand)
            findings = decide(facts)
            if facts.inventory:
                findings = self._doubt.settle(findings, facts.inventory)
            if act:
                if facts.inventory:
                    self._overlays.look(facts.inventory)
                self._remember(facts, {finding.vm_id for finding in findings})
                self._farmhand.names.settle(facts.records, self._farmhand.records.get)
                for job in facts.jobs.values():
                    enforce_deadline(self._farmhand.records, job, facts.now)
                self._farmhand.reboot.looked(findings, facts.inventory)
                findings = [self._act(finding, facts) if finding.sure else finding for finding in findings]
                self._farmhand.rings.rung(facts.processes)
        return Report(host=self._farmhand.host.name, at=facts.now, findings=tuple(findings))

    def answer(self, order: Look) -> None:
        """Look because somebody asked, twice where that makes sure, and tell what was found."""
        report = self.look(act=order.act)
        done = [finding for finding in report.findings if finding.outcome]
        waited = 0.0
        while any(not finding.sure for finding in report.findings) and waited < _PATIENCE_S:
            if self._farmhand.host.stopping.wait(_PAUSE_S):
                break
            waited += _PAUSE_S
            report = self.look(act=order.act)
            done += [finding for finding in report.findings if finding.outcome]
        still = [finding for finding in report.findings if not finding.outcome]
        said = tuple(dict.fromkeys((*done, *still)))
        self._farmhand.records.publish_report(order.id, report.model_copy(update={"findings": said}))

    def _remember(self, facts: Facts, strange: set[str]) -> None:
        """Note on this host what has come to rest."""
        for record in facts.records.values():
            if record.job is None and record.slot is not None and record.id not in strange:
                try:
                    intents.remember(self._farmhand.host.paths, record)
                except OSError as error:  # as it may be with one VM's directory
                    log.warning("VM %s: its intent is not written: %s", record.id, error)

    def _act(self, finding: Finding, facts: Facts) -> Finding:
        if finding.action is Action.NONE:
            return finding
        level = logging.INFO if finding.action is Action.RING else logging.WARNING
        log.log(level, "VM %s: %s: %s", finding.vm_id or "?", finding.what, finding.action)
        try:
            outcome = self._carry_out(finding, facts)
        except BangerError as error:
            outcome = f"failed: {error.brief}"
            log.warning("VM %s: %s", finding.vm_id, outcome)
        except Exception as error:  # the others must not wait for this one
            outcome = f"failed: {error!r}"
            log.exception("VM %s: %s", finding.vm_id, finding.action)
        return finding.model_copy(update={"outcome": outcome})

    def _carry_out(self, finding: Finding, facts: Facts) -> str:
        farmhand, vm_id = self._farmhand, finding.vm_id
        record = facts.records.get(vm_id)
        match finding.action:
            case Action.RING if record and record.job:
                farmhand.ring(facts.jobs[record.job])
                return "sent again"
            case Action.CANCEL if record and record.job:
                farmhand.records.cancel(record.job)
                return "cancelled"
            case Action.FAIL if record and record.job:
                farmhand.records.fail(record.job, finding.what)
                return "to fail"
            case Action.RESTART:
                job = farmhand.reboot.job(vm_id)
                booted = farmhand.records.job(job)
                if booted and booted.state not in GOING_ON:
                    farmhand.ring_begin(vm_id, KILL.name, rev=finding.rev)
                    return "stopped: it was booted again, and has ended since"
                farmhand.ring_begin(vm_id, RESTART.name, job, rev=finding.rev)
                return "begun"
            case Action.KILL | Action.DELETE | Action.RENEW as action:
                job, pipeline = new_id(), _BEGINS[action]
                farmhand.records.tell_found(vm_id, job, pipeline, finding.what)
                farmhand.ring_begin(vm_id, pipeline, job, rev=finding.rev)
                return "begun"
            case Action.RESTORE:
                return restore_vm(farmhand, vm_id, facts)
            case Action.LOSE:
                gone = StageFailedError(
                    "its host has nothing of it",
                    details="Redis was restored from an older copy, or the host has lost its disk",
                    resolution="`banger vm delete` removes the record.",
                )
                return "lost" if farmhand.records.lose(vm_id, finding.rev, gone) else CHANGED
            case Action.SWEEP:
                if adopted := record or adopt(farmhand, vm_id, facts):
                    farmhand.ring_begin(adopted.id, SWEEP.name, rev=adopted.rev)
                return "begun" if adopted else CHANGED
            case Action.CLEAR:
                shutil.rmtree(farmhand.host.paths.removed(vm_id), ignore_errors=True)
                return "removed"
        return ""
