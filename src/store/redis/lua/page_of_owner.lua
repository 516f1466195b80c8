-- A page of an owner's keys in the order of their ids.
-- KEYS 1 by_owner  2 ids  3 keys  4 owners
-- ARGV 1 owner tag  2 the key id after which it begins, or ''  3 how many
-- Answers how many live keys of the owner are counted, then ids and stored keys by turns; a key that is lost is an empty
-- text. Answers nothing when the index may lack a key: it has as many members as the list of ids, which lacks none.
local listed = redis.call('ZCARD', KEYS[2])
if redis.call('ZCARD', KEYS[1]) ~= listed or listed < redis.call('HLEN', KEYS[3]) then
  return {}
end
local page = {redis.call('HGET', KEYS[4], ARGV[1]) or '0'}
local from, to = '(' .. ARGV[1] .. ARGV[2], '(' .. ARGV[1] .. '\255'
for _, member in ipairs(redis.call('ZRANGEBYLEX', KEYS[1], from, to, 'LIMIT', 0, ARGV[3])) do
  local id = string.sub(member, #ARGV[1] + 1)
  page[#page + 1] = id
  page[#page + 1] = redis.call('HGET', KEYS[3], id) or ''
end
return page
