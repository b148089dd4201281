-- Registers a contact; one that exists stays as it is.
-- KEYS: meta, used, used_until, claim
-- ARGV: sent (ms), clock (ms), request_id, priority, display_name
-- Returns: {OK, created} | {UNKNOWN, shown}
-- Again: the contact remembers the request that made it; once it was forgotten, the claim does.
-- Runs: EXISTS claim, EXISTS meta, HGET meta, HSET meta, PERSIST meta, ZADD used, PERSIST used
-- Runs: ZADD used_until, PERSIST used_until
-- Uses: is_late, read_time
if redis.call('EXISTS', claim) == 1 then
  return {OK, 1}
end
local exists = redis.call('EXISTS', meta) == 1
if exists and redis.call('HGET', meta, 'by') == request_id then
  return {OK, 1}
end
local shown = read_time()
if is_late(sent, shown) then
  return {UNKNOWN, shown}
end
if exists then
  return {OK, 0}
end
-- Rehearsals: what can't be written is found out while nothing is.
redis.call('ZADD', used, 'XX', 0, '')
redis.call('ZADD', used_until, 'XX', 0, '')
redis.call('PERSIST', meta)

redis.call('HSET', meta, 'priority', priority, 'last_msg_at', clock or shown,
  'display_name', display_name, 'by', request_id)
-- The memory of a contact that was forgotten had an end.
redis.call('PERSIST', used)
redis.call('PERSIST', used_until)
return {OK, 1}
