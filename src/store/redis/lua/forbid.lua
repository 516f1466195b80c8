-- Lets nobody pass by an index entry any more, whatever it is. The place is kept, so that its token is not taken anew.
-- KEYS 1 index entry
-- Answers 1, or 0 when there is none.
local kind = redis.call('TYPE', KEYS[1]).ok
if kind == 'none' then
  return 0
end
if kind ~= 'hash' then
  redis.call('DEL', KEYS[1])
end
redis.call('HSETNX', KEYS[1], 'v', '0')
redis.call('HSET', KEYS[1], 'r', '1')
redis.call('HDEL', KEYS[1], 'b', 'c')
redis.call('PERSIST', KEYS[1])
return 1
