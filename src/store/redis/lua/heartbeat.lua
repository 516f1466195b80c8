-- A sidecar says that it lives.
-- KEYS 1 live sidecars (sorted set, by when they were last heard of, ms)  2 what they say (hash)
-- ARGV 1 sidecar  2 what it says  3 after how long a silent one is forgotten (ms)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[3], 'LIMIT', 0, 8)) do
  redis.call('ZREM', KEYS[1], gone)
  redis.call('HDEL', KEYS[2], gone)
end
return 1
