-- Removes an index entry of a deleted tenant, unless the lookup id is somebody else's by now.
-- KEYS 1 index entry
-- ARGV 1 tenant  2 data key id
local found = redis.call('HMGET', KEYS[1], 't', 'd')
if found[1] == ARGV[1] and found[2] == ARGV[2] then
  redis.call('DEL', KEYS[1])
  return 1
end
return 0
