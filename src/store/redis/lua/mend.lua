-- Moves aside what is of another type than ours: it can be neither read nor written, and stands in the way of all else.
-- KEYS names in one slot
-- ARGV 1 'keep' to move it to a name of its own, 'drop' if it can be made again, 'look' to leave it  from 2 the type that each should have
-- Answers the names of such.
local moved = {}
for at, name in ipairs(KEYS) do
  local found = redis.call('TYPE', name).ok
  if found ~= 'none' and found ~= ARGV[at + 1] then
    if ARGV[1] == 'keep' then
      redis.call('RENAME', name, name .. ':damaged')
    elseif ARGV[1] == 'drop' then
      redis.call('DEL', name)
    end
    moved[#moved + 1] = name
  end
end
return moved
