"""The scripts that make records and hand them out; the ones that both workers need are the journal's.

A job may be cancelled before it is there. Times are Redis' own, so that no host's clock matters. Each script
sees all that may be refused before it writes; ``move`` is the first to write, and the last to refuse.
"""

from __future__ import annotations

from banger.contracts.journal import TELL
from banger.contracts.states import MOVE

_CLOCK = """
local clock = redis.call('TIME')
local now = string.format('%d', clock[1] * 1000 + math.floor(clock[2] / 1000))
local now_s = string.format('%d.%03d', clock[1], math.floor(clock[2] / 1000))
"""

RESERVE = (
    TELL
    + MOVE
    + _CLOCK
    + """
local vm, job, name, leases, vm_events, farm_events, cancel = unpack(KEYS)
local want, record, fields = cjson.decode(ARGV[1]), cjson.decode(ARGV[2]), cjson.decode(ARGV[3])
local event, during = ARGV[4], ARGV[5]
if redis.call('HEXISTS', job, 'state') == 1 or redis.call('EXISTS', vm) == 1 then return {'again'} end
if redis.call('EXISTS', cancel) == 1 then return {'cancelled'} end
local owner = redis.call('GET', name)
if owner then return {'taken', owner} end
local taken, memory, vcpus = {}, want.memory, want.vcpus
for _, lease in ipairs(redis.call('HVALS', leases)) do
  local slot, m, v = string.match(lease, '^(%d+):(%d+):(%d+)$')
  taken[tonumber(slot)] = true
  memory, vcpus = memory + tonumber(m), vcpus + tonumber(v)
end
if memory > want.memory_limit or vcpus > want.vcpus_limit then return {'full'} end
local slot = want.first_slot
while taken[slot] do slot = slot + 1 end
if slot > want.last_slot then return {'full'} end
local ip = want.network + slot
local address = string.format('%d.%d.%d.%d', math.floor(ip / 16777216), math.floor(ip / 65536) % 256,
  math.floor(ip / 256) % 256, ip % 256)
local refused = move(vm, 'reserve', during)
if refused then return {'state', refused} end
redis.call('SET', name, want.id)
redis.call('HSET', leases, want.id, string.format('%d:%d:%d', slot, want.memory, want.vcpus))
redis.call('HSET', vm, unpack(record))
redis.call('HSET', vm, 'slot', string.format('%d', slot), 'address', address, 'created_at', now_s)
redis.call('HSET', job, 'began', now, 'touched', now, unpack(fields))
redis.call('PERSIST', vm_events)  -- a refusal may have been told there before
tell(vm_events, farm_events, event)
return {'ok'}
"""
)

BEGIN = (
    TELL
    + MOVE
    + _CLOCK
    + """
local vm, job, vm_events, farm_events, cancel = unpack(KEYS)
local id, pipeline, before, during, starts, params, event, needs_slot, at_rev = unpack(ARGV)
local state = redis.call('HGET', vm, 'state')
if not state then return {'gone', ''} end
local holder = redis.call('HGET', vm, 'job')
if holder == id then return {'again', ''} end
if redis.call('HEXISTS', job, 'state') == 1 then return {'over', ''} end
if redis.call('EXISTS', cancel) == 1 then return {'cancelled', ''} end
if at_rev ~= '' and (redis.call('HGET', vm, 'rev') or '0') ~= at_rev then return {'moved', ''} end
local busy = holder and redis.call('HGET', 'banger:job:' .. holder, 'state')
if busy == 'running' or busy == 'unwinding' then return {'busy', holder} end
if not string.find(',' .. before .. ',', ',' .. state .. ',', 1, true) then return {'state', state} end
if needs_slot == '1' and redis.call('HEXISTS', vm, 'slot') == 0 then return {'state', state} end
if move(vm, 'begin', during) then return {'state', state} end
redis.call('HSET', vm, 'job', id)
redis.call('PERSIST', vm)
redis.call('PERSIST', vm_events)
if starts == '1' then redis.call('HINCRBY', vm, 'generation', 1) end
redis.call('HSET', job, 'vm', redis.call('HGET', vm, 'id'), 'pipeline', pipeline,
  'state', 'running', 'params', params, 'began', now, 'touched', now)
tell(vm_events, farm_events, event)
return {'ok', ''}
"""
)

# In another boot than before, steps are forgotten that were done, and what was sent of the job since is of an
# older start.
TAKE_UP = (
    TELL
    + _CLOCK
    + """
local vm, job, vm_events, farm_events = unpack(KEYS)
local before, boot, steps, event = unpack(ARGV)
if redis.call('HGET', job, 'state') ~= 'running' or (redis.call('HGET', job, 'boot') or '') ~= before then
  return
end
redis.call('HSET', job, 'boot', boot)
if steps == '' then return end
for step in string.gmatch(steps, '[^,]+') do redis.call('HDEL', job, 's:' .. step) end
redis.call('HSET', job, 'touched', now)
redis.call('HINCRBY', vm, 'generation', 1)
tell(vm_events, farm_events, event)
"""
)

# A record at rest, and as it was when its host was looked at: no job has it, or one that is over.
LOSE = (
    TELL
    + MOVE
    + """
local vm, leases, vm_events, farm_events = unpack(KEYS)
local rev, error, event, name_prefix, ttl = unpack(ARGV)
if redis.call('EXISTS', vm) == 0 or (redis.call('HGET', vm, 'rev') or '0') ~= rev then return {'moved'} end
local holder = redis.call('HGET', vm, 'job')
local busy = holder and redis.call('HGET', 'banger:job:' .. holder, 'state')
if busy == 'running' or busy == 'unwinding' then return {'moved'} end
local refused = move(vm, 'lose', 'lost')
if refused then return {'state', refused} end
local id, name = redis.call('HGET', vm, 'id'), redis.call('HGET', vm, 'name')
if redis.call('GET', name_prefix .. name) == id then redis.call('DEL', name_prefix .. name) end
redis.call('HDEL', leases, id)
redis.call('HDEL', vm, 'slot', 'address', 'job')
redis.call('HSET', vm, 'error', error)
tell(vm_events, farm_events, event)
redis.call('EXPIRE', vm, ttl)
redis.call('EXPIRE', vm_events, ttl)
return {'ok'}
"""
)

# What is told of a VM that has no record (any more) is not kept for ever. A refusal is for who asked alone:
# it must not push out what others hear.
TELL_ONE = """
local vm, vm_events, farm_events = unpack(KEYS)
local event, ttl, vm_max, farm_max = unpack(ARGV)
redis.call('XADD', vm_events, 'MAXLEN', '~', vm_max, '*', 'e', event)
if farm_max ~= '0' then redis.call('XADD', farm_events, 'MAXLEN', '~', farm_max, '*', 'e', event) end
if redis.call('EXISTS', vm) == 0 then redis.call('EXPIRE', vm_events, ttl) end
"""

UPDATE_SPEC = """
local vm, leases = unpack(KEYS)
local id, spec, lease = unpack(ARGV)
if redis.call('HEXISTS', vm, 'slot') == 0 then return end
redis.call('HSET', vm, 'spec', spec)
redis.call('HSET', leases, id, redis.call('HGET', vm, 'slot') .. ':' .. lease)
"""

# ``over`` is the revision that the record to be replaced must have, nothing where none must be there. A job
# that has it ends with it: what it was for is not so any more.
RESTORE = (
    TELL
    + MOVE
    + """
local vm, leases, vm_events, farm_events = unpack(KEYS)
local id, name, state, over, rev, slot, room, fields, event, error, name_prefix, ttl = unpack(ARGV)
local known = redis.call('EXISTS', vm) == 1 and (redis.call('HGET', vm, 'rev') or '0')
if (known or '') ~= over then return {'moved'} end
if slot == '' and state ~= 'error' then return {'state', 'without a slot'} end
local function taken()
  local owner = redis.call('GET', name_prefix .. name)
  return slot ~= '' and owner and owner ~= id and redis.call('EXISTS', 'banger:vm:' .. owner) == 1 and owner
end
if taken() then name = string.sub(name, 1, 50) .. '-' .. id end
if taken() then return {'name', taken()} end
local leased = redis.call('HGETALL', leases)
for n = 1, #leased, 2 do
  local same = string.match(leased[n + 1], '^%d+') == slot
  if same and leased[n] ~= id then return {'slot', leased[n]} end
end
local refused = move(vm, 'restore', state)
if refused then return {'state', refused} end
local called = redis.call('HGET', vm, 'name')
if called and redis.call('GET', name_prefix .. called) == id then redis.call('DEL', name_prefix .. called) end
local holder = redis.call('HGET', vm, 'job')
local busy = holder and redis.call('HGET', 'banger:job:' .. holder, 'state')
if busy == 'running' or busy == 'unwinding' then
  redis.call('HSET', 'banger:job:' .. holder, 'state', 'failed', 'error', error)
  redis.call('EXPIRE', 'banger:job:' .. holder, ttl)
end
if known then rev = string.format('%d', math.max(tonumber(rev), tonumber(over) + 1)) end
redis.call('HDEL', vm, 'job', 'error', 'slot', 'address')
redis.call('HDEL', leases, id)
redis.call('HSET', vm, 'name', name, 'rev', rev, unpack(cjson.decode(fields)))
if slot ~= '' then
  redis.call('SET', name_prefix .. name, id)
  redis.call('HSET', leases, id, slot .. ':' .. room)
  redis.call('PERSIST', vm)
  redis.call('PERSIST', vm_events)
end
local told = cjson.decode(event)
told.job = holder or ''
tell(vm_events, farm_events, cjson.encode(told))
if slot == '' then
  redis.call('EXPIRE', vm, ttl)
  redis.call('EXPIRE', vm_events, ttl)
end
return {'ok', name, rev}
"""
)
