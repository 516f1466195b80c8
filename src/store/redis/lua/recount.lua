-- Counts the live keys of a tenant anew, unless something was changed since they were counted.
-- KEYS 1 tenant  2 owners  3 audit
-- ARGV 1 data key id  2 number of the last audit entry  3 live keys of all owners  from 4 owner tags and counts by turns
-- Answers 1, or 0 when something was changed.
if redis.call('HGET', KEYS[1], 'd') ~= ARGV[1] or last_number(KEYS[3], KEYS[2]) ~= tonumber(ARGV[2]) then
  return 0
end
redis.call('DEL', KEYS[2])
redis.call('HSET', KEYS[2], '*', ARGV[3], '#', ARGV[2])
for at = 4, #ARGV, 2 do
  redis.call('HSET', KEYS[2], ARGV[at], ARGV[at + 1])
end
return 1
