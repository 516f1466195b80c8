-- A change has ended: its tenant's live keys are told, its place is given back, the worker has nothing to do.
-- A number that is older than what was told is ignored, so telling twice or late does no harm.
-- KEYS 1 begun  2 total  3 held  4 live (hash)  5 deleted (sorted set)  6 directory (sorted set)
-- ARGV 1 what was begun, or '' to leave it  2 tenant/data key  3 sequence number, or '' for nothing to tell
--      4 live keys  5 tenant to put in the directory, or ''
if ARGV[1] ~= '' then
  redis.call('ZREM', KEYS[1], ARGV[1])
  redis.call('ZREM', KEYS[3], ARGV[1])
end
if ARGV[3] == '' or redis.call('ZSCORE', KEYS[5], ARGV[2]) then
  return 0
end
if ARGV[5] ~= '' then
  redis.call('ZADD', KEYS[6], 0, ARGV[5])
end
local before = 0
local told = redis.call('HGET', KEYS[4], ARGV[2])
local number, count = string.match(told or '', '^(%d+):(%d+)$')
if number then
  if tonumber(number) >= tonumber(ARGV[3]) then
    return 0
  end
  before = tonumber(count)
end
redis.call('HSET', KEYS[4], ARGV[2], ARGV[3] .. ':' .. ARGV[4])
-- A sum that is no number is begun anew.
local total = (tonumber(redis.call('GET', KEYS[2]) or '0') or 0) + ARGV[4] - before
redis.call('SET', KEYS[2], string.format('%.0f', math.max(total, 0)))
return 1
