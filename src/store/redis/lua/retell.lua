-- Tells the sum of all tenants anew what one of them has, if it was told something else meanwhile or wrongly.
-- KEYS 1 begun  2 total  3 held  4 live  5 deleted  6 directory
-- ARGV 1 tenant/data key  2 what it was told before, or ''  3 what it is told now
-- Answers 1, or 0 when it was told something else by now.
local told = redis.call('HGET', KEYS[4], ARGV[1]) or ''
if told ~= ARGV[2] then
  return 0
end
redis.call('ZREM', KEYS[5], ARGV[1])
redis.call('HSET', KEYS[4], ARGV[1], ARGV[3])
local before = tonumber(string.match(told, ':(%d+)$') or '0')
local total = (tonumber(redis.call('GET', KEYS[2]) or '0') or 0) + string.match(ARGV[3], ':(%d+)$') - before
redis.call('SET', KEYS[2], string.format('%.0f', math.max(total, 0)))
return 1
