-- Takes a key's id out of the list if there is no such key.
-- KEYS 1 ids  2 keys
-- ARGV 1 key id
-- Answers 1 when it was taken out.
if redis.call('HEXISTS', KEYS[2], ARGV[1]) == 1 then
  return 0
end
return redis.call('ZREM', KEYS[1], ARGV[1])
