-- Compares the owner index with keys that the tenant has.
-- KEYS 1 tenant  2 by_owner
-- ARGV 1 data key id  2 '1' to put them right  from 3 members: owner tag and key id
-- Answers how many are missing.
if redis.call('HGET', KEYS[1], 'd') ~= ARGV[1] then
  return 0
end
local missing = 0
for at = 3, #ARGV do
  -- With another score it stands where no page finds it.
  if redis.call('ZSCORE', KEYS[2], ARGV[at]) ~= '0' then
    missing = missing + 1
    if ARGV[2] == '1' then
      redis.call('ZADD', KEYS[2], 0, ARGV[at])
    end
  end
end
return missing
