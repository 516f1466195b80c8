-- Gives a lease to who asks first, and to its holder again.
-- KEYS 1 lease
-- ARGV 1 holder  2 for how long (ms)
-- What is of another type than ours is nobody's lease, and is replaced.
local held = redis.call('TYPE', KEYS[1]).ok == 'string' and redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
