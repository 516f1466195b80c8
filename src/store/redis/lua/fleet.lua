-- Who lives.
-- KEYS 1 live sidecars  2 what they say
-- ARGV 1 after how long a silent one does not count as live (ms)
-- Answers, three each: sidecar, what it says, how long ago (ms).
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local live = redis.call('ZRANGEBYSCORE', KEYS[1], now - ARGV[1], '+inf', 'WITHSCORES')
local answer = {}
for at = 1, #live, 2 do
  local says = redis.call('HGET', KEYS[2], live[at])
  if says then
    answer[#answer + 1] = {live[at], says, string.format('%.0f', now - live[at + 1])}
  end
end
return answer
