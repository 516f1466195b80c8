-- Puts a key's record in the place of what was seen.
-- KEYS 1 keys  2 ids
-- ARGV 1 key id  2 what was seen  3 stored key
-- Answers 1, or 0 when something else is there by now.
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then
  return 0
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
redis.call('ZADD', KEYS[2], 0, ARGV[1])
return 1
