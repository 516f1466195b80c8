-- Applies a revocation whose index entries are written. Once: who comes second finds it done.
-- ARGV 1 key id  2 name of the change  3 data key id
-- Answers {'ok', number of the audit entry, live keys}, {'done'} or {'gone'}.
if redis.call('HGET', KEYS[1], 'd') ~= ARGV[3] then
  return {'gone'}
end
local packed = redis.call('HGET', KEYS[10], ARGV[1])
if not packed then
  return {'done'}
end
local change = unpacked(packed, 15)
if not change or change[15] ~= ARGV[2] then
  return {'done'}
end
redis.call('HDEL', KEYS[10], ARGV[1])
local number, live = apply(change, true)
return {'ok', number, live}
