-- Registers a contact; one that exists stays as it is.
-- KEYS: meta
-- ARGV: request_id, priority, now (ms), display_name
-- Returns: {OK, created}
-- Again: the contact remembers the request that made it.
-- Runs: EXISTS meta, HGET meta, HSET meta
if redis.call('EXISTS', KEYS[1]) == 1 then
  return {OK, redis.call('HGET', KEYS[1], 'by') == ARGV[1] and 1 or 0}
end
redis.call('HSET', KEYS[1], 'priority', ARGV[2], 'last_msg_at', ARGV[3], 'display_name', ARGV[4],
  'by', ARGV[1])
return {OK, 1}
