-- What is counted of a tenant.
-- KEYS 1 tenant  2 owners  3 audit
-- Answers {'ok', data key id, number of the last audit entry, owner tags and counts by turns} or {'gone'}.
local dek_id = redis.call('HGET', KEYS[1], 'd')
if not dek_id then
  return {'gone'}
end
local number = last_number(KEYS[3], KEYS[2])
return {'ok', dek_id, string.format('%.0f', number), redis.call('HGETALL', KEYS[2])}
