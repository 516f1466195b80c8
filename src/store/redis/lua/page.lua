-- A page of a tenant's keys in the order of their ids.
-- KEYS 1 ids  2 keys
-- ARGV 1 where to begin, in the syntax of ZRANGEBYLEX  2 how many
-- Answers ids and stored keys by turns.
local page = {}
for _, id in ipairs(redis.call('ZRANGEBYLEX', KEYS[1], ARGV[1], '+', 'LIMIT', 0, ARGV[2])) do
  page[#page + 1] = id
  page[#page + 1] = redis.call('HGET', KEYS[2], id)
end
return page
