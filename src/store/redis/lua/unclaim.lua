-- Gives up a claim.
-- KEYS 1 index entry
-- ARGV 1 claim
if redis.call('HGET', KEYS[1], 'c') == ARGV[1] then
  redis.call('DEL', KEYS[1])
end
return 1
