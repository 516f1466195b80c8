-- Writes an index entry, unless a newer one is there.
-- KEYS 1 index entry
-- ARGV 1 version  2 tenant  3 key id  4 data key id  5 sealed entry  6 claim that may be there, or ''
-- Answers 1 written, 0 a newer one stays, -1 it is another's.
local found = redis.call('HMGET', KEYS[1], 'v', 't', 'k', 'd', 'c')
if found[1] then
  if found[2] ~= ARGV[2] or found[3] ~= ARGV[3] or found[4] ~= ARGV[4] then
    return -1
  end
  if tonumber(found[1]) > tonumber(ARGV[1]) then
    return 0
  end
elseif found[5] and found[5] ~= ARGV[6] then
  return -1
end
redis.call('HSET', KEYS[1], 'v', ARGV[1], 't', ARGV[2], 'k', ARGV[3], 'd', ARGV[4], 'b', ARGV[5])
redis.call('HDEL', KEYS[1], 'c')
redis.call('PERSIST', KEYS[1])
return 1
