-- Removes an index entry of a key, unless it is a later one or another's. Its place is kept for a while: a write that
-- was held up finds a later version there and puts nothing back.
-- KEYS 1 index entry
-- ARGV 1 version tag: order, id of the change  2 tenant  3 key id  4 data key id  5 how long the place is kept (ms)
local order, change = string.match(ARGV[1], '^(%d+) ?(%d*)')
local found = redis.call('HMGET', KEYS[1], 'v', 't', 'k', 'd')
if not found[1] or found[2] ~= ARGV[2] or found[3] ~= ARGV[3] or found[4] ~= ARGV[4] then
  return 0
end
if (tonumber(found[1]) or 0) > tonumber(order) then
  return 0
end
redis.call('HSET', KEYS[1], 'v', order, 'n', change)
redis.call('HDEL', KEYS[1], 'b')
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return 1
