-- Index entries have been written or removed: they leave the outbox, unless others wait there.
-- KEYS 1 tenant  2 outbox  3 lookups
-- ARGV 1 data key id  from 2, two each: lookup id, version tag
-- Answers 1, or 0 when the tenant is gone and what was written must be removed.
if redis.call('HGET', KEYS[1], 'd') ~= ARGV[1] then
  return 0
end
for at = 2, #ARGV, 2 do
  local waiting = redis.call('HGET', KEYS[2], ARGV[at])
  local write = waiting and unpacked(waiting, 4)
  if write and write[1] == ARGV[at + 1] then
    redis.call('HDEL', KEYS[2], ARGV[at])
    if write[3] == '' then
      redis.call('SREM', KEYS[3], ARGV[at])
    end
  end
end
return 1
