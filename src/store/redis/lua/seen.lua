-- What is in a place, as one text that is another one when anything of it is.
local function seen(name)
  local kind = redis.call('TYPE', name).ok
  if kind ~= 'hash' then
    return kind
  end
  local all = redis.call('HGETALL', name)
  local fields = {}
  for at = 1, #all, 2 do
    fields[#fields + 1] = #all[at] .. ':' .. all[at] .. #all[at + 1] .. ':' .. all[at + 1]
  end
  table.sort(fields)
  return redis.sha1hex(table.concat(fields))
end
