-- Removes from the owner index what is no key's.
-- KEYS 1 tenant  2 by_owner
-- ARGV 1 data key id  from 2 members
-- Answers how many were there.
if redis.call('HGET', KEYS[1], 'd') ~= ARGV[1] then
  return 0
end
local removed = 0
for at = 2, #ARGV do
  removed = removed + redis.call('ZREM', KEYS[2], ARGV[at])
end
return removed
