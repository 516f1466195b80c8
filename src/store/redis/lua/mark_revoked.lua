-- Marks an index entry of a key as revoked: another entry of the same key is.
-- KEYS 1 index entry
-- ARGV 1 tenant  2 key id  3 data key id
local found = redis.call('HMGET', KEYS[1], 't', 'k', 'd')
if found[1] == ARGV[1] and found[2] == ARGV[2] and found[3] == ARGV[3] then
  redis.call('HSET', KEYS[1], 'r', '1')
  return 1
end
return 0
