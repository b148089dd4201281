-- Takes a key off the list of those to be published, and its public half from its row.
-- KEYS: row, unpublished
-- ARGV: key_id, reason ('published' or 'dead'), clock (ms)
--       dead: only if its private half is gone.
-- Returns: {OK, taken off}
-- Again: it is off the list, so the second run takes nothing off.
-- Runs: HMGET row, HSET row, HDEL row, ZREM unpublished
-- Uses: read_time, try_call
local fields = try_call('HMGET', row, 'status', 'published_at') or {}
if reason == 'dead' and fields[1] == 'ACTIVE' then
  return {OK, 0}
end
-- Rehearsals: what can't be written is found out while nothing is.
redis.call('ZREM', unpublished, '')
if fields[1] then
  redis.call('HDEL', row, '')
end
if fields[1] == 'ACTIVE' and not fields[2] then
  redis.call('HSET', row, 'published_at', clock or read_time())
end
if fields[1] then
  redis.call('HDEL', row, 'public_key', 'signature')
end
return {OK, redis.call('ZREM', unpublished, key_id)}
