-- ARGV 1 'check', 'commit' or 'revoke'  2 how long a change may take (ms)  from 3 the change
-- 'check' only looks. 'revoke' keeps the change for finish_revoke.lua: until then nobody else can change the key.
-- Answers {'ok', number of the audit entry, live keys} or an objection.
local change = {}
for at = 3, #ARGV do
  change[at - 2] = ARGV[at]
end
local objection = objection(change)
if objection then
  return objection
end
if is_late(change[14], ARGV[2]) then
  return {'late'}
end
if ARGV[1] == 'commit' then
  local number, live = apply(change, false)
  return {'ok', number, live}
end
if ARGV[1] == 'revoke' then
  redis.call('HSET', KEYS[10], change[3], cmsgpack.pack(change))
end
return {'ok', 0, 0}
