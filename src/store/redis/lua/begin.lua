-- A change begins: it is written down where the worker looks, and may hold a place under the limit of all keys.
-- KEYS 1 begun (sorted set) 2 total (number) 3 held (sorted set)
-- ARGV 1 what is begun  2 limit of all keys, or ''  3 how long a place is held (ms)
-- Answers {'ok', now (ms), 0} or {'total', keys that there are and places held, keys that there are}.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[2] ~= '' then
  redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now)
  -- A place is held for a while from now at most: one beyond that was not held by a change.
  redis.call('ZREMRANGEBYSCORE', KEYS[3], '(' .. string.format('%.0f', now + ARGV[3]), '+inf')
  local live = tonumber(redis.call('GET', KEYS[2]) or '0') or 0
  local taken = live + redis.call('ZCARD', KEYS[3])
  if taken >= tonumber(ARGV[2]) then
    return {'total', taken, live}
  end
  redis.call('ZADD', KEYS[3], now + ARGV[3], ARGV[1])
end
redis.call('ZADD', KEYS[1], now, ARGV[1])
return {'ok', now, 0}
