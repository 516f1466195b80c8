-- What is in the place of a record.
-- KEYS 1 record
-- Answers what was seen, and fields and values by turns if it is a hash.
local answer = {seen(KEYS[1])}
if redis.call('TYPE', KEYS[1]).ok == 'hash' then
  for _, text in ipairs(redis.call('HGETALL', KEYS[1])) do
    answer[#answer + 1] = text
  end
end
return answer
