-- Charges a request to all buckets of a tenant and a key or to none, and settles the caller's leases on them. The same
-- arithmetic as src/store/budgets/bucket.rs, to which tests hold it. A bucket is a hash:
--   p parts of a request  l level in parts  a as of when (ms)  h requests held by leases  n leases
--   e when the first lease ends (ms)  w how much of a quota was told to be used (0, 80, 100)  o:<holder> sequence, granted, spent and end of a lease
-- KEYS the buckets
-- ARGV 1 cost  2 how long a lease lasts (ms)  and for each bucket 11:
--   1 parts that leak in a ms  2 parts of a request  3 burst  4 beginning and  5 end of the window (ms; 0 for a rate)
--   6 whether it is in shadow (0, 1)  7 debt  8 holder, empty for no lease  9 sequence  10 spent  11 target
-- Answers [-1, now] if it is another window, else [charged, now] and for each bucket:
--   fits, granted, how long the lease lasts, available, retry after, empty after, newly reached per cent of a quota
local GRACE, CLOCK_STEP, HELD_SHARE, LEVEL_MAX = 1000, 60000, 10, 8000000000000000
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local cost, lease_ms = tonumber(ARGV[1]), tonumber(ARGV[2])

local function text(number)
  return string.format('%.0f', number)
end

-- A whole number that is stored; what is none is damage.
local function stored(value)
  local number = tonumber(value)
  if not number or number < 0 then
    error('a bucket holds what is no number')
  end
  return number
end

local function read(name, b)
  local all = redis.call('HMGET', name, 'p', 'l', 'a', 'h', 'n', 'e', 'w')
  if not all[1] then
    b.level, b.at, b.held, b.leases, b.first_end, b.told = 0, now, 0, 0, 0, 0
    return
  end
  b.level, b.at, b.held = stored(all[2]), stored(all[3]), stored(all[4])
  b.leases, b.first_end, b.told = stored(all[5]), stored(all[6]), stored(all[7] or 0)
  local period = stored(all[1])
  -- One period is a multiple of the other: neither way exceeds what is counted exactly.
  if period < b.period then
    b.level = math.min(b.level * (b.period / period), LEVEL_MAX)
  elseif period > b.period then
    b.level = math.ceil(b.level / (period / b.period))
  end
  if b.at > now + CLOCK_STEP then
    b.at = now
  end
  if b.at < now then
    b.level = math.max(0, b.level - math.min(b.level, b.amount * (now - b.at)))
    b.at = now
  end
end

local function add(b, requests)
  b.level = math.min(b.level + requests * b.period, LEVEL_MAX)
end

local function parse(value)
  local sequence, granted, spent, ends = string.match(value, '^(%d+) (%d+) (%d+) (%d+)$')
  return {sequence = stored(sequence), granted = stored(granted), spent = stored(spent), ends = stored(ends)}
end

-- Takes leases that have ended as spent.
local function sweep(name, b)
  if b.leases == 0 or now < b.first_end then
    return
  end
  local all = redis.call('HGETALL', name)
  b.first_end = 0
  for at = 1, #all, 2 do
    if string.sub(all[at], 1, 2) == 'o:' then
      local lease = parse(all[at + 1])
      if lease.ends <= now then
        local lost = lease.granted - lease.spent
        b.held, b.leases = b.held - lost, b.leases - 1
        add(b, lost)
        redis.call('HDEL', name, all[at])
      elseif b.first_end == 0 or lease.ends < b.first_end then
        b.first_end = lease.ends
      end
    end
  end
end

-- Listens to what the holder says, and charges its debt.
local function hear(name, b)
  add(b, b.debt)
  if not b.holder then
    return
  end
  local value = redis.call('HGET', name, b.field)
  if not value then
    b.listened = true
    return
  end
  local lease = parse(value)
  b.lease = lease
  if b.sequence <= lease.sequence then
    return
  end
  b.listened = true
  lease.sequence = b.sequence
  local spent = math.min(math.max(b.spent, lease.spent), lease.granted)
  local newly = spent - lease.spent
  lease.spent = spent
  local back = math.max(0, lease.granted - lease.spent - b.target)
  lease.granted = lease.granted - back
  b.held = b.held - newly - back
  add(b, newly)
end

-- All of a bucket. One that cannot be read is begun anew: whoever could make it so could have removed it as well, and
-- a limit that nobody can count would be none.
local function open(name, b)
  local function all_of_it()
    read(name, b)
    sweep(name, b)
    hear(name, b)
  end
  if not pcall(all_of_it) then
    redis.call('DEL', name)
    b.lease, b.listened = nil, nil
    all_of_it()
  end
end

local function available(b)
  local room = math.max(0, b.burst * b.period - b.level)
  return math.max(0, math.floor(room / b.period) - b.held)
end

local function grant(b)
  local most_held = math.floor(b.burst / HELD_SHARE)
  local room = math.min(math.max(0, most_held - b.held), available(b))
  if not b.lease then
    b.lease = {sequence = b.sequence, granted = b.spent, spent = b.spent, ends = 0}
    b.leases = b.leases + 1
  end
  local lease = b.lease
  local most = math.min(b.target, math.floor(most_held / b.leases))
  local granted = math.min(math.max(0, most - (lease.granted - lease.spent)), room)
  granted = granted - granted % math.max(1, cost)
  lease.granted = lease.granted + granted
  b.held = b.held + granted
  lease.ends = now + lease_ms + GRACE
  if b.first_end == 0 or lease.ends < b.first_end then
    b.first_end = lease.ends
  end
end

-- In how many ms no more than so many requests are used or held.
local function drained_in(b, requests)
  local excess = b.level + b.held * b.period - requests * b.period
  if excess <= 0 then
    return 0
  end
  if b.upto > 0 then
    return b.upto - now
  end
  return math.ceil(excess / b.amount)
end

-- What has come to be used of a quota since somebody was last told.
local function newly_reached(b)
  if b.upto == 0 then
    return 0
  end
  local before = b.told
  b.told = 0
  if b.level >= b.burst then
    b.told = 100
  elseif b.level * 5 >= b.burst * 4 then
    b.told = 80
  end
  return b.told > before and b.told or 0
end

-- Writes the bucket, and for how long it means anything.
local function write(name, b)
  local lease = b.lease
  if lease and lease.granted == lease.spent then
    b.leases = b.leases - 1
    redis.call('HDEL', name, b.field)
  elseif lease then
    local value = {text(lease.sequence), text(lease.granted), text(lease.spent), text(lease.ends)}
    redis.call('HSET', name, b.field, table.concat(value, ' '))
  end
  redis.call('HSET', name, 'p', text(b.period), 'l', text(b.level), 'a', text(b.at), 'h', text(b.held), 'n',
    text(b.leases), 'e', text(b.first_end), 'w', text(b.told))
  local keep = drained_in(b, 0) + lease_ms + 2 * GRACE + CLOCK_STEP
  redis.call('PEXPIRE', name, text(math.min(keep, 8640000000)))
end

-- Two rates and four quotas. Whoever may run this may not keep Redis busy with more.
if #KEYS > 6 then
  return redis.error_reply('ERR too many buckets')
end
local all = {}
for at, name in ipairs(KEYS) do
  local first = 2 + (at - 1) * 11
  local function number(offset)
    return tonumber(ARGV[first + offset])
  end
  local b = {
    amount = number(1), period = number(2), burst = number(3), from = number(4), upto = number(5),
    shadow = ARGV[first + 6] == '1', debt = number(7), sequence = number(9), spent = number(10), target = number(11),
  }
  if ARGV[first + 8] ~= '' then
    b.holder = ARGV[first + 8]
  end
  b.field = 'o:' .. ARGV[first + 8]
  if b.upto > 0 and (now < b.from or now >= b.upto) then
    return {-1, now}
  end
  all[at] = b
end
local charged = true
for at, name in ipairs(KEYS) do
  local b = all[at]
  open(name, b)
  b.fits = available(b) >= cost
  charged = charged and (b.fits or b.shadow)
end
local answer = {charged and 1 or 0, now}
for at, name in ipairs(KEYS) do
  local b = all[at]
  if charged then
    if b.fits then
      add(b, cost)
    end
    if b.listened then
      grant(b)
    end
  end
  local lease, left, granted = b.lease, 0, b.spent
  if lease then
    local ends = lease.ends - GRACE
    if b.upto > 0 then
      ends = math.min(ends, b.upto)
    end
    granted, left = lease.granted, math.max(0, ends - now)
  end
  local retry = 0
  if not b.fits then
    retry = drained_in(b, math.max(0, b.burst - cost))
  end
  local row = {b.fits and 1 or 0, granted, left, available(b), retry, drained_in(b, 0), newly_reached(b)}
  for _, value in ipairs(row) do
    answer[#answer + 1] = value
  end
  write(name, b)
end
return answer
