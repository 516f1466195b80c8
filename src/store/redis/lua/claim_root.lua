-- Makes the root record, or completes that of an older version. Another installation's stays as it is.
-- KEYS 1 root
-- ARGV 1 format  2 keyring id  3 store id
local keyring = redis.call('HGET', KEYS[1], 'keyring_id')
if keyring and keyring ~= ARGV[2] then
  return 0
end
redis.call('HSETNX', KEYS[1], 'format', ARGV[1])
redis.call('HSETNX', KEYS[1], 'keyring_id', ARGV[2])
redis.call('HSETNX', KEYS[1], 'store_id', ARGV[3])
return 1
