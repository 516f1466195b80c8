-- Keeps a lookup id for a key that is about to be made, for a while.
-- KEYS 1 index entry (hash)
-- ARGV 1 claim  2 how long (ms)  3 tenant  4 key id
--      5 'new', 'own' when an entry of this key is fine, or 'revoke' when it may be revoked too  6 data key id  7 '1' to take over what another change has claimed
-- Answers 1, 0 when the lookup id is another's, or 2 when the entry is this key's and revoked.
local found = redis.call('HMGET', KEYS[1], 'v', 't', 'k', 'c', 'r', 'd')
if found[1] then
  if ARGV[5] ~= 'new' and found[2] == ARGV[3] and found[3] == ARGV[4] and found[6] == ARGV[6] then
    return found[5] and ARGV[5] == 'own' and 2 or 1
  end
  return 0
end
if found[4] and found[4] ~= ARGV[1] and ARGV[7] ~= '1' then
  return 0
end
redis.call('HSET', KEYS[1], 'c', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
