-- What the scripts on a tenant's slot share. Prepended to each of them.

-- A version as it is compared: its order and, after a space, the id of the change if it has one.
local function version(order, change)
  if change and change ~= '' then
    return order .. ' ' .. change
  end
  return order
end

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

-- The list of at least so many texts that is packed, or nil if that is anything else.
local function unpacked(packed, least)
  local is_read, list = pcall(cmsgpack.unpack, packed)
  if not is_read or type(list) ~= 'table' or #list < least then
    return nil
  end
  for at = 1, #list do
    if type(list[at]) ~= 'string' then
      return nil
    end
  end
  return list
end

-- A count or a number as it is stored, or nil if it is none of ours.
local function whole(text)
  local number = text and string.match(text, '^%d+$') and tonumber(text)
  return number and number < 2 ^ 53 and number or nil
end

-- The number of the last audit entry, 0 if there is none, and the one that is still there. It is kept beside the counts as
-- well: where the audit is lost, numbers go on, because counts are told by them.
local function last_number(audit, owners)
  local last = redis.call('XREVRANGE', audit, '+', '-', 'COUNT', 1)
  local number = last[1] and whole(string.match(last[1][1], '^%d+'))
  if last[1] and not number then
    -- Beyond any number of ours nothing could be appended any more.
    redis.call('RENAME', audit, audit .. ':damaged')
  end
  return math.max(number or 0, whole(redis.call('HGET', owners, '#')) or 0), number or 0
end

-- Appends to the audit stream and answers the entry's number.
local function append(audit, entry, owners)
  local number = last_number(audit, owners) + 1
  local text = string.format('%.0f', number)
  redis.call('XADD', audit, text .. '-0', 'e', entry)
  redis.call('HSET', owners, '#', text)
  return number
end
