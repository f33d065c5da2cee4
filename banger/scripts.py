"""The scripts that make records and hand them out; the ones that both workers need are the journal's.

A job may be cancelled before it is there.
"""

from __future__ import annotations

from banger.contracts.journal import TELL

_CLOCK = """
local clock = redis.call('TIME')
local now = string.format('%d', clock[1] * 1000 + math.floor(clock[2] / 1000))
"""

RESERVE = (
    TELL
    + _CLOCK
    + """
local vm, job, name, leases, vm_events, farm_events, cancel = unpack(KEYS)
local want, record, fields = cjson.decode(ARGV[1]), cjson.decode(ARGV[2]), cjson.decode(ARGV[3])
local event = ARGV[4]
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
redis.call('SET', name, want.id)
redis.call('HSET', leases, want.id, string.format('%d:%d:%d', slot, want.memory, want.vcpus))
redis.call('HSET', vm, unpack(record))
redis.call('HSET', vm, 'slot', string.format('%d', slot), 'address', address)
redis.call('HSET', job, 'began', now, 'touched', now, unpack(fields))
tell(vm_events, farm_events, event)
return {'ok'}
"""
)

BEGIN = (
    TELL
    + _CLOCK
    + """
local vm, job, vm_events, farm_events, cancel = unpack(KEYS)
local id, pipeline, before, during, starts, params, event, needs_slot = unpack(ARGV)
local state = redis.call('HGET', vm, 'state')
if not state then return {'gone', ''} end
local holder = redis.call('HGET', vm, 'job')
if holder == id then return {'again', ''} end
if redis.call('HEXISTS', job, 'state') == 1 then return {'over', ''} end
if redis.call('EXISTS', cancel) == 1 then return {'cancelled', ''} end
local busy = holder and redis.call('HGET', 'banger:job:' .. holder, 'state')
if busy == 'running' or busy == 'unwinding' then return {'busy', holder} end
if not string.find(',' .. before .. ',', ',' .. state .. ',', 1, true) then return {'state', state} end
if needs_slot == '1' and redis.call('HEXISTS', vm, 'slot') == 0 then return {'state', state} end
redis.call('HSET', vm, 'state', during, 'job', id)
if starts == '1' then redis.call('HINCRBY', vm, 'generation', 1) end
redis.call('HSET', job, 'vm', redis.call('HGET', vm, 'id'), 'pipeline', pipeline,
  'state', 'running', 'params', params, 'began', now, 'touched', now)
tell(vm_events, farm_events, event)
return {'ok', ''}
"""
)

RESTORE = (
    TELL
    + """
local vm, name, leases, vm_events, farm_events = unpack(KEYS)
local id, record, lease, event = ARGV[1], cjson.decode(ARGV[2]), ARGV[3], ARGV[4]
if redis.call('EXISTS', vm) == 1 then return 0 end
redis.call('HSET', vm, unpack(record))
redis.call('SET', name, id)
redis.call('HSET', leases, id, lease)
tell(vm_events, farm_events, event)
return 1
"""
)
