-- What the scripts on a tenant's slot share. Prepended to each of them.

-- Whether a change began too long ago: what it had claimed may be another's by now.
local function is_late(begun, allowed)
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000) - begun > tonumber(allowed)
end

-- Whether the request was done before and is not forgotten.
local function is_repeated(due, tag, made_at)
  if tag == '' then
    return false
  end
  local expires_at = redis.call('ZSCORE', due, tag)
  return expires_at and tonumber(expires_at) > tonumber(made_at)
end

-- Remembers a request and forgets a few that have expired: more than one, so that they go faster than they come.
local function remember(requests, due, tag, made_at, expires_at, body)
  if tag == '' then
    return
  end
  for _, old in ipairs(redis.call('ZRANGEBYSCORE', due, '-inf', made_at, 'LIMIT', 0, 8)) do
    redis.call('HDEL', requests, old)
    redis.call('ZREM', due, old)
  end
  redis.call('HSET', requests, tag, made_at .. ' ' .. expires_at .. '\n' .. body)
  redis.call('ZADD', due, expires_at, tag)
end

-- Appends to the audit stream and answers the entry's number.
local function append(audit, entry)
  local last = redis.call('XREVRANGE', audit, '+', '-', 'COUNT', 1)
  local number = 1
  if last[1] then
    number = tonumber(string.match(last[1][1], '^%d+')) + 1
  end
  redis.call('XADD', audit, string.format('%.0f', number) .. '-0', 'e', entry)
  return number
end
