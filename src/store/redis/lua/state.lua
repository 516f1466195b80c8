-- What the outbox worker has to tell of a tenant.
-- KEYS 1 tenant  2 owners  3 audit
-- ARGV 1 data key id
-- Answers {'ok', number of the last audit entry, live keys} or {'gone'}.
if redis.call('HGET', KEYS[1], 'd') ~= ARGV[1] then
  return {'gone'}
end
local number = last_number(KEYS[3], KEYS[2])
return {'ok', number, whole(redis.call('HGET', KEYS[2], '*')) or 0}
