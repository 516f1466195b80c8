-- Compares the lookup ids that a tenant is remembered to have with those that it has.
-- KEYS 1 tenant  2 lookups
-- ARGV 1 data key id  2 '1' to put them right  from 3 lookup ids
-- Answers how many are missing.
if redis.call('HGET', KEYS[1], 'd') ~= ARGV[1] then
  return 0
end
local missing = 0
for at = 3, #ARGV do
  if redis.call('SISMEMBER', KEYS[2], ARGV[at]) == 0 then
    missing = missing + 1
    if ARGV[2] == '1' then
      redis.call('SADD', KEYS[2], ARGV[at])
    end
  end
end
return missing
