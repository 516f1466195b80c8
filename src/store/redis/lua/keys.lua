-- What the scripts on a tenant's keys share. KEYS of all of them:
-- 1 tenant  2 keys  3 ids  4 owners  5 outbox  6 audit  7 lookups  8 requests  9 requests_due  10 revoking
-- 11 by_owner
-- A change of a key is a list:
-- 1 data key id  2 'new', 'first', 'lost' or the version that must be there  3 key id  4 its version  5 sealed key
-- 6 'add', 'remove' or ''  7 most live keys of the owner  8 owner tag  9 audit entry
-- 10-13 request: tag or '', made at, expires at, sealed answer  14 begun (ms)  15 name of this change
-- from 16, three each: lookup id, version tag, sealed index entry or '' to remove it
-- A version is its order and, after a space, the id of the change; a version tag has an 'r' after that if it revokes.

-- How many live keys are counted; what is no number is taken as none.
local function counted(tag)
  return whole(redis.call('HGET', KEYS[4], tag)) or 0
end

-- Counts one more or one less. Never below none: counts can be lost while the keys are not, and then a key must still
-- be revocable.
local function count(tag, change)
  local live = math.max(counted(tag) + change, 0)
  if live == 0 and tag ~= '*' then
    redis.call('HDEL', KEYS[4], tag)
  else
    redis.call('HSET', KEYS[4], tag, string.format('%.0f', live))
  end
end

-- A change that is kept in a hash, or nil if that holds anything else: then it is taken away.
local function kept_revocation(change)
  local packed = redis.call('HGET', KEYS[10], change[3])
  if not packed then
    return nil
  end
  local revocation = unpacked(packed, 15)
  if revocation and revocation[1] == change[1] and revocation[3] == change[3] then
    return revocation
  end
  redis.call('HDEL', KEYS[10], change[3])
end

-- What speaks against a change, or nil.
local function objection(change)
  if redis.call('HGET', KEYS[1], 'd') ~= change[1] then
    return {'gone'}
  end
  if is_repeated(KEYS[9], change[10], change[11]) then
    return {'repeated'}
  end
  local revoking = kept_revocation(change)
  if revoking then
    return {'revoking', revoking}
  end
  local stored = redis.call('HGET', KEYS[2], change[3])
  if change[2] == 'new' then
    if stored then return {'exists'} end
  elseif change[2] == 'first' then
    if redis.call('HLEN', KEYS[2]) > 0 then return {'exists'} end
  elseif change[2] == 'lost' then
    if stored and string.match(stored, '^%d+ ?%d*\n') then return {'conflict'} end
  elseif not stored then
    return {'gone'}
  elseif string.match(stored, '^[^\n]*') ~= change[2] then
    return {'conflict'}
  end
  if change[6] == 'add' then
    -- A tenant that has or had keys has a count of all of them, if only of none.
    if redis.call('HLEN', KEYS[2]) > 0 and not whole(redis.call('HGET', KEYS[4], '*')) then
      return {'uncounted'}
    end
    local live = counted(change[8])
    if live >= tonumber(change[7]) then
      return {'owner', live}
    end
  end
end

-- Applies a change; its index entries go to the outbox unless they are written already.
-- Answers the number of the audit entry and how many live keys the tenant has.
local function apply(change, is_index_written)
  -- First: what is of another type than ours stops here, before anything is changed.
  redis.call('ZADD', KEYS[11], 0, change[8] .. change[3])
  redis.call('HSET', KEYS[2], change[3], change[4] .. '\n' .. change[5])
  redis.call('ZADD', KEYS[3], 0, change[3])
  local step = change[6] == 'add' and 1 or change[6] == 'remove' and -1 or 0
  if step ~= 0 then
    count(change[8], step)
    count('*', step)
  end
  for at = 16, #change, 3 do
    redis.call('SADD', KEYS[7], change[at])
    if not is_index_written then
      local write = cmsgpack.pack({change[at + 1], change[3], change[at + 2], change[15]})
      redis.call('HSET', KEYS[5], change[at], write)
    end
  end
  remember(KEYS[8], KEYS[9], change[10], change[11], change[12], change[13])
  redis.call('HSETNX', KEYS[4], '*', '0')
  local number = append(KEYS[6], change[9], KEYS[4])
  return number, counted('*')
end
