-- What of a tenant is decided and not yet in the index.
-- KEYS 1 tenant  2 outbox  3 revoking
-- ARGV 1 data key id
-- Answers {'ok', revocations (changes as in keys.lua), index writes (lookup id, version, key id, entry, change)}
-- or {'gone'}.
if redis.call('HGET', KEYS[1], 'd') ~= ARGV[1] then
  return {'gone'}
end
local revocations, writes = {}, {}
for _, packed in ipairs(redis.call('HVALS', KEYS[3])) do
  revocations[#revocations + 1] = cmsgpack.unpack(packed)
end
local waiting = redis.call('HGETALL', KEYS[2])
for at = 1, #waiting, 2 do
  local write = cmsgpack.unpack(waiting[at + 1])
  writes[#writes + 1] = {waiting[at], write[1], write[2], write[3], write[4]}
end
return {'ok', revocations, writes}
