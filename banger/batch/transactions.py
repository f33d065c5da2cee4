"""The scripts that change a batch: each one atomic, and each one says what it found instead of guessing.

A job's state is written whole, over the one that was read before: who comes second is told so, and looks
again. The counters, the list of those that wait and the set of those at work change with it, and whoever
settles the last one ends the batch, in the same transaction: it ends once, whoever dies.
"""

from __future__ import annotations

_BATCH = """
local batch, jobs, waiting, going, events, active = unpack(KEYS)
local function count(phase, by) redis.call('HINCRBY', batch, 'n:' .. phase, by) end
local function tell(kind, text) redis.call('XADD', events, 'MAXLEN', '~', 20000, '*', kind, text) end
local function put(index, job) redis.call('HSET', jobs, index, job); tell('job', job) end
local function moved(index, old) return redis.call('HGET', jobs, index) ~= old end
local function state() return redis.call('HGET', batch, 'state') end
local function cancel(reason)
  if state() ~= 'running' then return end
  redis.call('HSET', batch, 'state', 'cancelling', 'reason', reason)
  redis.call('HDEL', batch, 'why')
  tell('batch', 'cancelling')
end
local function finish(id, now, ttl)
  if state() == 'ended' or redis.call('LLEN', waiting) > 0 or redis.call('SCARD', going) > 0 then return end
  redis.call('HSET', batch, 'state', 'ended', 'ended_at', now)
  redis.call('HDEL', batch, 'why')
  redis.call('SREM', active, id)
  tell('batch', 'ended')
  for _, key in ipairs({batch, jobs, events}) do redis.call('EXPIRE', key, ttl) end
end
"""

SUBMIT = (
    _BATCH
    + """
local id, fields, states, created = ARGV[1], cjson.decode(ARGV[2]), cjson.decode(ARGV[3]), ARGV[4]
local all = KEYS[7]
if redis.call('HEXISTS', batch, 'id') == 1 then return 'again' end
if redis.call('HEXISTS', batch, 'unwanted') == 1 then return 'unwanted' end
redis.call('HSET', batch, unpack(fields))
redis.call('PERSIST', events)  -- a refusal may have been told there before
for n, job in ipairs(states) do
  redis.call('HSET', jobs, n - 1, job)
  redis.call('RPUSH', waiting, n - 1)
end
count('waiting', #states)
redis.call('SADD', active, id)
redis.call('ZADD', all, created, id)
tell('batch', 'submitted')
return 'ok'
"""
)

# The head of the line alone: who waits is served in order.
TAKE = (
    _BATCH
    + """
local index, old, new, parallel = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
if state() ~= 'running' then return 'over' end
if redis.call('LINDEX', waiting, 0) ~= index or moved(index, old) then return 'moved' end
if redis.call('SCARD', going) >= parallel then return 'full' end
redis.call('LPOP', waiting)
redis.call('SADD', going, index)
redis.call('HDEL', batch, 'why')
count('waiting', -1)
count('starting', 1)
put(index, new)
return 'ok'
"""
)

PLACED = (
    _BATCH
    + """
local index, old, new, from = unpack(ARGV)
if moved(index, old) then return 'moved' end
count(from, -1)
count('running', 1)
put(index, new)
return 'ok'
"""
)

# Back to the head of the line, unless a job with its id has begun after all; none will from now on, should
# another worker still be about to.
GIVE_BACK = (
    _BATCH
    + """
local index, old, new, from, why, ttl = unpack(ARGV)
local job, wish = KEYS[7], KEYS[8]
if redis.call('HEXISTS', job, 'state') == 1 then return 'begun' end
if moved(index, old) then return 'moved' end
redis.call('SET', wish, '1', 'EX', ttl, 'NX')
redis.call('SREM', going, index)
redis.call('LPUSH', waiting, index)
if state() == 'running' then redis.call('HSET', batch, 'why', why) end
count(from, -1)
count('waiting', 1)
put(index, new)
return 'ok'
"""
)

# ``to`` is a verdict, or ``waiting`` for one more attempt, which a batch that is cancelled has no use for.
# ``stop`` is why the others are to be stopped with it: told in the same breath, or who dies here forgets it.
SETTLE = (
    _BATCH
    + """
local id, index, old, new, from, to, now, ttl, stop = unpack(ARGV)
if moved(index, old) then return 'moved' end
if to == 'waiting' then
  if state() ~= 'running' then return 'over' end
  redis.call('RPUSH', waiting, index)
end
redis.call('SREM', going, index)
if from == 'waiting' then redis.call('LREM', waiting, 1, index) end
count(from, -1)
count(to, 1)
put(index, new)
if stop ~= '' then cancel(stop) end
finish(id, now, ttl)
return 'ok'
"""
)

# One that is still on its way has been overtaken: it is refused when it comes.
CANCEL = (
    _BATCH
    + """
local id, reason, now, ttl, unknown_ttl = unpack(ARGV)
if redis.call('HEXISTS', batch, 'id') == 0 then
  redis.call('HSET', batch, 'unwanted', reason)
  redis.call('EXPIRE', batch, unknown_ttl)
  return 'unknown'
end
if state() ~= 'running' then return 'over' end
cancel(reason)
finish(id, now, ttl)
return 'ok'
"""
)

SAY_WHY = (
    _BATCH
    + """
if state() ~= 'running' then return 'over' end
redis.call('HSET', batch, 'why', ARGV[1])
return 'ok'
"""
)

FORGET = (
    _BATCH
    + """
local id, all = ARGV[1], KEYS[7]
if state() and state() ~= 'ended' then return 'over' end
redis.call('DEL', batch, jobs, waiting, going, events)
redis.call('ZREM', all, id)
return 'ok'
"""
)

# A job that has ended waits once more; a batch that had ended with it goes on.
AGAIN = (
    _BATCH
    + """
local id, index, old, new, verdict, deadline_at = unpack(ARGV)
if state() == 'cancelling' then return 'over' end
if moved(index, old) then return 'moved' end
redis.call('RPUSH', waiting, index)
redis.call('HSET', batch, 'state', 'running', 'deadline_at', deadline_at)
redis.call('HDEL', batch, 'reason', 'ended_at')
redis.call('SADD', active, id)
for _, key in ipairs({batch, jobs, events}) do redis.call('PERSIST', key) end
count(verdict, -1)
count('waiting', 1)
put(index, new)
return 'ok'
"""
)
