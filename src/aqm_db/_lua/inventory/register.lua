-- Registers a contact; one that exists stays as it is.
-- KEYS: meta, used
-- ARGV: request_id, priority, now (ms), display_name
-- Returns: {OK, created}
-- Again: the contact remembers the request that made it.
-- Runs: EXISTS meta, HGET meta, HSET meta, PERSIST meta, ZADD used, PERSIST used
if redis.call('EXISTS', meta) == 1 then
  return {OK, redis.call('HGET', meta, 'by') == request_id and 1 or 0}
end
-- Rehearsals: what can't be written is found out while nothing is.
redis.call('ZADD', used, 'XX', 0, '')
redis.call('PERSIST', meta)

redis.call('HSET', meta, 'priority', priority, 'last_msg_at', now, 'display_name', display_name,
  'by', request_id)
-- The memory of a contact that was forgotten had an end.
redis.call('PERSIST', used)
return {OK, 1}
