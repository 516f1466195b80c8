-- Compares the lists of a tenant with its keys.
-- KEYS 1 ids  2 keys  3 outbox  4 revoking
-- ARGV 1 '1' to put them right
-- Answers how many ids are missing or too many, and how many changes wait for the index.
local listed, there = redis.call('ZCARD', KEYS[1]), redis.call('HLEN', KEYS[2])
if ARGV[1] == '1' and listed ~= there then
  for _, id in ipairs(redis.call('HKEYS', KEYS[2])) do
    redis.call('ZADD', KEYS[1], 0, id)
  end
end
return {math.abs(listed - there), redis.call('HLEN', KEYS[3]) + redis.call('HLEN', KEYS[4])}
