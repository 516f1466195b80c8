-- Whether the sum of all live keys is that of what each tenant has told.
-- KEYS 1 begun  2 total  3 held  4 live  5 deleted  6 directory
-- ARGV 1 '1' to put it right
-- Answers 1 when it was wrong.
local sum = 0
for _, told in ipairs(redis.call('HVALS', KEYS[4])) do
  sum = sum + (tonumber(string.match(told, '^%d+:(%d+)$') or '0') or 0)
end
local text = string.format('%.0f', sum)
local there = redis.call('GET', KEYS[2])
if there == text or (not there and sum == 0) then
  return 0
end
if ARGV[1] == '1' then
  redis.call('SET', KEYS[2], text)
end
return 1
