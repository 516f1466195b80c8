-- What the outbox worker has to tell of a tenant.
-- KEYS 1 tenant  2 owners  3 audit
-- ARGV 1 data key id
-- Answers {'ok', number of the last audit entry, live keys} or {'gone'}.
if redis.call('HGET', KEYS[1], 'd') ~= ARGV[1] then
  return {'gone'}
end
local last = redis.call('XREVRANGE', KEYS[3], '+', '-', 'COUNT', 1)
local number = last[1] and tonumber(string.match(last[1][1], '^%d+')) or 0
return {'ok', number, tonumber(redis.call('HGET', KEYS[2], '*') or '0')}
