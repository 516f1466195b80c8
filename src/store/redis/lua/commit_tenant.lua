-- Writes a tenant. A version is its order and, after a space, the id of the change.
-- KEYS 1 tenant  2 owners  3 audit  4 requests  5 requests_due
-- ARGV 1 'new' or the version that must be there  2 version  3 data key id  4 wrapped data key  5 wrapped vault key
--      6 sealed tenant  7 audit entry  8-11 request: tag or '', made at, expires at, sealed answer
--      12 begun (ms)  13 how long a change may take (ms)
-- Answers {'ok', number of the audit entry, live keys} or an objection.
if is_repeated(KEYS[5], ARGV[8], ARGV[9]) then
  return {'repeated'}
end
local found = redis.call('HMGET', KEYS[1], 'v', 'd', 'n')
if ARGV[1] == 'new' then
  if found[1] then return {'exists'} end
  -- Else its own record is lost: making it anew would lose its keys for good.
  if redis.call('EXISTS', KEYS[3]) == 1 then return {'lost'} end
elseif not found[1] or found[2] ~= ARGV[3] then
  return {'gone'}
elseif version(found[1], found[3]) ~= ARGV[1] then
  return {'conflict'}
end
if is_late(ARGV[12], ARGV[13]) then
  return {'late'}
end
redis.call('HDEL', KEYS[1], 'deleted')
local order, change = string.match(ARGV[2], '^(%d+) ?(%d*)$')
redis.call('HSET', KEYS[1], 'v', order, 'n', change, 'd', ARGV[3], 'k', ARGV[4], 'w', ARGV[5], 'b', ARGV[6])
redis.call('PERSIST', KEYS[1])
remember(KEYS[4], KEYS[5], ARGV[8], ARGV[9], ARGV[10], ARGV[11])
return {'ok', append(KEYS[3], ARGV[7], KEYS[2]), whole(redis.call('HGET', KEYS[2], '*')) or 0}
