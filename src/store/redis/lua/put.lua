-- Puts a record in the place of what was seen, or nothing.
-- KEYS 1 record
-- ARGV 1 what was seen  from 2 fields and values by turns; none to remove it
-- Answers 1, or 0 when something else is there by now.
if seen(KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('DEL', KEYS[1])
for at = 2, #ARGV, 2 do
  redis.call('HSET', KEYS[1], ARGV[at], ARGV[at + 1])
end
return 1
