-- Writes an index entry, unless a later one or a revoked one is there. A revoked entry is always written: revoked is
-- final. The same rule as IndexRow::succeeds in src/store.rs.
-- KEYS 1 index entry
-- ARGV 1 version tag: order, id of the change, 'r' if the key is revoked  2 tenant  3 key id  4 data key id  5 sealed entry
--      6 claim that may be there, or ''
-- Answers what stands now: 1 this entry, 0 a later one, 2 a revoked one, -1 another key's.
local order, change, revoked = string.match(ARGV[1], '^(%d+) ?(%d*) ?(r?)$')
local found = redis.call('HMGET', KEYS[1], 'v', 't', 'k', 'd', 'c', 'r')
if found[1] then
  if found[2] ~= ARGV[2] or found[3] ~= ARGV[3] or found[4] ~= ARGV[4] then
    return -1
  end
  if revoked == '' then
    if found[6] then
      return 2
    end
    if (tonumber(found[1]) or 0) > tonumber(order) then
      return 0
    end
  end
elseif found[5] and found[5] ~= ARGV[6] then
  return -1
end
redis.call('HSET', KEYS[1], 'v', order, 'n', change, 't', ARGV[2], 'k', ARGV[3], 'd', ARGV[4], 'b', ARGV[5])
redis.call('HDEL', KEYS[1], 'c')
if revoked ~= '' then
  redis.call('HSET', KEYS[1], 'r', '1')
end
redis.call('PERSIST', KEYS[1])
return 1
