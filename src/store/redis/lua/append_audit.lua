-- Continues the audit of a tenant that is copied from another store.
-- KEYS 1 tenant  2 owners  3 audit
-- ARGV 1 data key id  2 number of the last entry that must be there, 0 for none  from 3 entries
-- Answers {'ok', number of the last entry, live keys} or an objection.
if redis.call('HGET', KEYS[1], 'd') ~= ARGV[1] then
  return {'gone'}
end
local number, there = last_number(KEYS[3], KEYS[2])
if there ~= tonumber(ARGV[2]) then
  return {'conflict'}
end
for at = 3, #ARGV do
  number = append(KEYS[3], ARGV[at], KEYS[2])
end
return {'ok', number, whole(redis.call('HGET', KEYS[2], '*')) or 0}
