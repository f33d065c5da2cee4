"""How both workers claim a step and report its outcome: atomic scripts over the VM's record.

The Redis client is handed in, so this stays free of I/O of its own. Times in scripts are Redis' own.
A step is claimed by (job, step), in the boot that its job is of; the VM's generation fences claims of an
older start. A claim is its worker's until the step's time is over or another process serves the queue,
whichever comes first: one at a time does.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from banger.contracts.boot import boot_id
from banger.contracts.calls import StageCall
from banger.contracts.errors import BangerError, WrongStateError
from banger.contracts.names import new_id
from banger.contracts.states import MOVE

FARM_EVENTS = "banger:events"
FARM_EVENTS_MAX = 20_000
VM_EVENTS_MAX = 2_000
SERVING_TTL_S = 10
CANCEL = "1"
ENDED_TTL_S = 7 * 24 * 3600


def vm_key(vm_id: str) -> str:
    """Return the key of a VM's record (a hash)."""
    return f"banger:vm:{vm_id}"


def vm_events_key(vm_id: str) -> str:
    """Return the key of a VM's event stream: its timeline."""
    return f"banger:vm:{vm_id}:events"


def job_key(job: str) -> str:
    """Return the key of a job (a hash): pipeline, state, the mark of each step."""
    return f"banger:job:{job}"


def cancel_key(job: str) -> str:
    """Return the key that is there when a job is to stop: its own, since whoever asks may write no more."""
    return f"banger:job:{job}:cancel"


def name_key(name: str) -> str:
    """Return the key that holds the id of the VM with this name."""
    return f"banger:name:{name}"


def serving_key(queue: str) -> str:
    """Return the key that is there, for SERVING_TTL_S at a time, while a worker serves the queue."""
    return f"banger:serving:{queue}"


def leases_key(host: str) -> str:
    """Return the key of a host's leases (a hash): VM id to ``slot:memory_mib:vcpus``."""
    return f"banger:host:{host}:leases"


class Redis(Protocol):
    """The one call that the journal makes."""

    def eval(self, script: str, numkeys: int, *keys_and_args: Any) -> Any:
        """Run a Lua script."""


class Verdict(StrEnum):
    """What a runner is to do with a step."""

    GO = "go"  # claimed: act
    DONE = "done"  # somebody did it
    BUSY = "busy"  # somebody is at it
    BLOCKED = "blocked"  # a step that this one requires did not succeed
    EXHAUSTED = "exhausted"  # claimed too often without an end
    CANCELLED = "cancelled"  # the user wants no more of this job
    UNWINDING = "unwinding"  # the job has failed meanwhile: ring for its unwinding
    OVER = "over"  # the job has ended, the VM is gone or started anew, or its host is: drop the message


@dataclass(frozen=True)
class Claim:
    """A claim's outcome. ``token`` proves, when the outcome is reported, that the claim is still ours.

    ``wish`` is what stands in the job's cancel key: CANCEL, or why it was not the user who wanted that.
    """

    verdict: Verdict
    token: str
    attempt: int = 1
    wish: str = ""


TELL = """
local function tell(vm_events, farm_events, event)
  redis.call('XADD', vm_events, 'MAXLEN', '~', VM_MAX, '*', 'e', event)
  redis.call('XADD', farm_events, 'MAXLEN', '~', FARM_MAX, '*', 'e', event)
end
""".replace("VM_MAX", str(VM_EVENTS_MAX)).replace("FARM_MAX", str(FARM_EVENTS_MAX))

_CLAIM = (
    TELL
    + """
local vm, job, vm_events, farm_events, cancel = unpack(KEYS)
local step, generation, token, lease_ms, attempts, unwinding, event, requires, boot =
  ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6] == '1', ARGV[7], ARGV[8],
  ARGV[9]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local known = tonumber(redis.call('HGET', vm, 'generation') or '-1')
if known < 0 or known > generation then return {'over'} end
local state = redis.call('HGET', job, 'state')
local mark = redis.call('HGET', job, 's:' .. step)
if state ~= (unwinding and 'unwinding' or 'running') then
  return {state == 'unwinding' and 'unwinding' or 'over'}
end
local before = redis.call('HGET', job, 'boot')
if not unwinding and before and before ~= boot then return {'over'} end  -- it has to be taken up in this boot
if mark == 'done' then return {'done'} end
if mark == 'failed' then return {unwinding and 'done' or 'over'} end
local attempt = 1
if mark then
  local holder, until_ms, n = string.match(mark, '^(%w+)|(%d+)|(%d+)$')
  local lives = string.sub(holder, 1, 12) == string.sub(token, 1, 12)  -- one process at a time serves a queue
  if holder ~= token and lives and tonumber(until_ms) > now then return {'busy'} end
  attempt = tonumber(n) + 1
end
local mine = token .. '|' .. string.format('%d', now + lease_ms) .. '|' .. string.format('%d', attempt)
redis.call('HSET', job, 's:' .. step, mine, 'touched', string.format('%d', now))
if attempt > attempts then return {'exhausted', attempt} end
local wish = not unwinding and redis.call('GET', cancel)
if wish then return {'cancelled', attempt, wish} end
for required in string.gmatch(requires, '[^,]+') do
  if redis.call('HGET', job, 's:' .. required) == 'failed' then return {'blocked', attempt} end
end
redis.call('HDEL', job, 'rings')
tell(vm_events, farm_events, event)
return {'go', attempt}
"""
)

_RELEASE = """
local job, step, token = KEYS[1], ARGV[1], ARGV[2]
local holder, attempt = string.match(redis.call('HGET', job, 's:' .. step) or '', '^(%w+)|%d+|(%d+)$')
if holder ~= token then return 0 end
redis.call('HSET', job, 's:' .. step, token .. '|0|' .. string.format('%d', attempt - 1))
return 1
"""

_SETTLE = """
local function settle(vm, job, name_prefix, leases, vm_events, farm_events, final, release, event, ttl)
  if release then
    local id, name = redis.call('HGET', vm, 'id'), redis.call('HGET', vm, 'name')
    if redis.call('GET', name_prefix .. name) == id then redis.call('DEL', name_prefix .. name) end
    redis.call('HDEL', leases, id)
    redis.call('HDEL', vm, 'slot', 'address')
  end
  redis.call('HDEL', vm, 'job', 'error')
  local state, error = redis.call('HGET', job, 'state'), redis.call('HGET', job, 'error')
  redis.call('HSET', job, 'state', state == 'unwinding' and 'failed' or 'done')
  redis.call('EXPIRE', job, ttl)
  if final == 'error' then redis.call('HSET', vm, 'error', error or '{}') end
  if final == 'gone' then redis.call('DEL', vm) end
  local told = cjson.decode(event)
  told.state = final
  tell(vm_events, farm_events, cjson.encode(told))
  if redis.call('HEXISTS', vm, 'slot') == 0 then  -- it holds nothing any more: a story, and not for ever
    redis.call('EXPIRE', vm, ttl)
    redis.call('EXPIRE', vm_events, ttl)
  end
end
"""

# What may be refused is refused before anything is written: a claim that was lost, a VM that another job has
# by now, a job that was turned round meanwhile, a state that the VM must not get.
_FINISH = (
    TELL
    + MOVE
    + _SETTLE
    + """
local vm, job, vm_events, farm_events, leases = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local step, token, outcome, event, final, release, settled, name_prefix, ttl, error, fails_to, said =
  unpack(ARGV)
release = release == '1'
local mark = redis.call('HGET', job, 's:' .. step)
if not mark or string.sub(mark, 1, #token + 1) ~= token .. '|' then return 'lost' end
if 'banger:job:' .. (redis.call('HGET', vm, 'job') or '') ~= job then return 'lost' end
local failed, unwinding = outcome == 'failed', string.sub(step, 1, 1) == 'u'
if redis.call('HGET', job, 'state') ~= (unwinding and 'unwinding' or 'running') then return 'lost' end
if failed and not unwinding then final, release = fails_to, false end
if final ~= '' and unwinding and (failed or redis.call('HEXISTS', job, 'undo_failed') == 1) then
  final, release = 'error', false
end
local refused = final ~= '' and move(vm, 'settle', final)
if refused then return refused end
local clock = redis.call('TIME')
local now = string.format('%d', clock[1] * 1000 + math.floor(clock[2] / 1000))
redis.call('HSET', job, 's:' .. step, outcome, 'touched', now)
if said ~= '' then redis.call('HSET', job, 'said:' .. cjson.decode(event).stage, said) end
tell(vm_events, farm_events, event)
if failed and unwinding then redis.call('HSET', job, 'undo_failed', error) end
if failed and not unwinding then
  redis.call('HSET', job, 'state', 'unwinding', 'error', error, 'failed_at', now)
end
if final ~= '' then
  settle(vm, job, name_prefix, leases, vm_events, farm_events, final, release, settled, ttl)
end
return 'ok'
"""
)


@dataclass(frozen=True)
class Journal:
    """Claims and reports steps in Redis for one worker process. Errors of the client pass through.

    ``incarnation`` is that process: a claim of another one, which served the same queue before, is void.
    ``boot`` is that of its host.
    """

    redis: Redis
    incarnation: str = field(default_factory=new_id)
    boot: str = field(default_factory=boot_id, kw_only=True)

    def new_token(self) -> str:
        """Return what marks one delivery of a step, by this process."""
        return self.incarnation + new_id()

    def claim(self, call: StageCall, token: str) -> Claim:
        """Claim a step for this delivery; only ``Verdict.GO`` allows to act."""
        reply = self.redis.eval(
            _CLAIM,
            5,
            *_keys(call),
            cancel_key(call.job),
            call.step,
            call.generation,
            token,
            _lease_ms(call),
            call.table_row.attempts,
            int(call.unwinding),
            _event(call, "started"),
            ",".join(call.requires),
            self.boot,
        )
        words: list[Any] = [word.decode() if isinstance(word, bytes) else word for word in reply]
        return Claim(Verdict(words[0]), token, *words[1:])

    def release(self, call: StageCall, token: str) -> bool:
        """Give a claim back as if it had never been made; False when it is not ours any more."""
        return bool(self.redis.eval(_RELEASE, 1, job_key(call.job), call.step, token))

    def finished(self, call: StageCall, token: str, ms: float, data: dict[str, Any] | None) -> bool:
        """Report success; False when claim or VM were lost meanwhile. Then, as with WrongStateError (the
        state that the VM would get is not legal), nothing was written.
        """
        event = _event(call, "finished", ms=round(ms, 1), **({"data": data} if data else {}))
        said = json.dumps(data) if data and call.table_row.tells else ""
        return self._finish(call, token, "done", event, "", said)

    def failed(self, call: StageCall, token: str, ms: float, error: BangerError) -> bool:
        """Report failure: the job turns to unwinding, or, while unwinding, remembers that an undo failed."""
        event = _event(call, "failed", ms=round(ms, 1), error=error.to_wire())
        wire = json.dumps(error.to_wire() | {"stage": call.stage, "pipeline": call.pipeline})
        return self._finish(call, token, "failed", event, wire)

    def _finish(
        self, call: StageCall, token: str, outcome: str, event: str, error: str, said: str = ""
    ) -> bool:
        reply = self.redis.eval(
            _FINISH,
            5,
            *_keys(call),
            leases_key(call.host),
            call.step,
            token,
            outcome,
            event,
            call.final or "",
            int(call.release),
            _event(call, "settled"),
            name_key(""),
            ENDED_TTL_S,
            error,
            call.fails_to or "",
            said,
        )
        answer = reply.decode() if isinstance(reply, bytes) else str(reply)
        if answer not in ("ok", "lost"):
            raise WrongStateError(
                f"{call.task_id} cannot end: no {call.pipeline} may do so to a VM that is {answer}",
                details="nothing was written",
            )
        return answer == "ok"


def _keys(call: StageCall) -> tuple[str, str, str, str]:
    return vm_key(call.vm_id), job_key(call.job), vm_events_key(call.vm_id), FARM_EVENTS


def _lease_ms(call: StageCall) -> int:
    return int(call.table_row.lease_s * 1000)


def _event(call: StageCall, kind: str, **more: Any) -> str:
    """Return an event as the streams hold it: dozens a job, without what readers take for granted."""
    said = {
        "kind": kind,
        "vm": call.vm_id,
        "job": call.job,
        "pipeline": call.pipeline,
        "stage": call.stage,
        "host": call.host,
        "queue": call.queue,
    }
    if call.direction != "do":
        said["direction"] = call.direction
    unwinding = {"unwinding": True} if call.unwinding else {}
    return json.dumps(said | unwinding | more, separators=(",", ":"))
