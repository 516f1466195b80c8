-- What of a tenant is decided and not yet in the index.
-- KEYS 1 tenant  2 outbox  3 revoking  4 keys
-- ARGV 1 data key id
-- Answers {'ok', revocations (changes as in keys.lua), index writes (lookup id, version tag, key id, entry, change), how many
-- there were of which nothing can be made: those are taken away}, {'lost'} when the tenant's record is not there but its
-- keys are, or {'gone'}.
local dek_id = redis.call('HGET', KEYS[1], 'd')
if dek_id ~= ARGV[1] then
  return {not dek_id and redis.call('EXISTS', KEYS[4]) == 1 and 'lost' or 'gone'}
end
local revocations, writes, lost = {}, {}, 0
local kept = redis.call('HGETALL', KEYS[3])
for at = 1, #kept, 2 do
  local change = unpacked(kept[at + 1], 15)
  if change and change[1] == ARGV[1] and change[3] == kept[at] and (#change - 15) % 3 == 0 then
    revocations[#revocations + 1] = change
  else
    redis.call('HDEL', KEYS[3], kept[at])
    lost = lost + 1
  end
end
local waiting = redis.call('HGETALL', KEYS[2])
for at = 1, #waiting, 2 do
  local write = unpacked(waiting[at + 1], 4)
  if write and #write == 4 and #waiting[at] == 16 then
    writes[#writes + 1] = {waiting[at], write[1], write[2], write[3], write[4]}
  else
    redis.call('HDEL', KEYS[2], waiting[at])
    lost = lost + 1
  end
end
return {'ok', revocations, writes, lost}
