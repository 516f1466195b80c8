-- Deletes a tenant: its data keys, and with them the sense of all else, then what is in its slot.
-- KEYS 1 tenant  2 keys  3 ids  4 owners  5 outbox  6 audit  7 lookups  8 requests  9 requests_due  10 revoking
--      11 by_owner  12 leftovers
-- ARGV 1 data key id  2 version that must be there
-- Answers {'ok'} or an objection.
local found = redis.call('HMGET', KEYS[1], 'v', 'd', 'n')
if not found[1] or found[2] ~= ARGV[1] then
  return {'gone'}
end
if version(found[1], found[3]) ~= ARGV[2] then
  return {'conflict'}
end
redis.call('DEL', KEYS[1])
-- For a while it is known that it was deleted, not lost: index entries of it may still be found.
redis.call('HSET', KEYS[1], 'deleted', ARGV[1])
redis.call('PEXPIRE', KEYS[1], 86400000)
if redis.call('EXISTS', KEYS[7]) == 1 then
  redis.call('RENAME', KEYS[7], KEYS[12])
end
for at = 2, 11 do
  -- What was moved aside because it was damaged.
  redis.call('UNLINK', KEYS[at] .. ':damaged')
end
redis.call('UNLINK', KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[8], KEYS[9], KEYS[10], KEYS[11])
return {'ok'}
