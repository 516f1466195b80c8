-- A tenant was deleted: it leaves the directory and the sum.
-- The mark stays: somebody may have made the tenant again, and then it has to be put back into the directory.
-- KEYS 1 begun  2 total  3 held  4 live  5 deleted  6 directory
-- ARGV 1 tenant/data key  2 tenant  3 how long the deletion is remembered (ms)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREM', KEYS[6], ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[5], '-inf', now - ARGV[3])
redis.call('ZADD', KEYS[5], now, ARGV[1])
local told = redis.call('HGET', KEYS[4], ARGV[1])
if told then
  redis.call('HDEL', KEYS[4], ARGV[1])
  local count = string.match(told, ':(%d+)$') or 0
  local total = (tonumber(redis.call('GET', KEYS[2]) or '0') or 0) - count
  redis.call('SET', KEYS[2], string.format('%.0f', math.max(total, 0)))
end
return 1
