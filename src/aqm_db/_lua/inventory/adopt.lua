-- Lists a contact that something else has written in the index of contacts, or in that of forgotten
-- ones, if no more than the memory of used coins is there.
-- KEYS: meta, used, used_until, contacts, forgotten
-- ARGV: clock (ms), contact_id, used_ttl (ms)
-- Returns: {OK, listed}
-- Again: it is listed by then.
-- Runs: EXISTS meta, EXISTS used, EXISTS used_until, PTTL used, PTTL used_until, SADD contacts
-- Runs: ZADD forgotten
-- Uses: limit_memory, read_time
if redis.call('EXISTS', meta) == 1 then
  return {OK, redis.call('SADD', contacts, contact_id)}
end
if redis.call('EXISTS', used) + redis.call('EXISTS', used_until) == 0 then
  return {OK, 0}
end
local shown = read_time()
if redis.call('PTTL', used) == -1 or redis.call('PTTL', used_until) == -1 then
  -- Rehearsal: what can't be written is found out while nothing is.
  redis.call('ZADD', forgotten, 'XX', 0, '')
  limit_memory(used, used_until, clock or shown, used_ttl)
end
local left = math.max(redis.call('PTTL', used), redis.call('PTTL', used_until))
return {OK, redis.call('ZADD', forgotten, 'NX', string.format('%.0f', shown + left), contact_id)}
