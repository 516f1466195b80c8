-- A page of a tenant's keys in the order of their ids.
-- KEYS 1 ids  2 keys
-- ARGV 1 where to begin, in the syntax of ZRANGEBYLEX  2 how many  3 '1' if we may write
-- Answers ids and stored keys by turns; a key that is lost is an empty text.
if ARGV[1] == '-' and ARGV[3] == '1' and redis.call('ZCARD', KEYS[1]) < redis.call('HLEN', KEYS[2]) then
  -- Ids were lost; the keys themselves say which.
  for _, id in ipairs(redis.call('HKEYS', KEYS[2])) do
    redis.call('ZADD', KEYS[1], 0, id)
  end
end
local page = {}
for _, id in ipairs(redis.call('ZRANGEBYLEX', KEYS[1], ARGV[1], '+', 'LIMIT', 0, ARGV[2])) do
  page[#page + 1] = id
  page[#page + 1] = redis.call('HGET', KEYS[2], id) or ''
end
return page
