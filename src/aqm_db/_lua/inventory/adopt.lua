-- Lists a contact that something else has written in the index of contacts, or in that of forgotten
-- ones, if no more than the memory of used coins is there.
-- KEYS: meta, used, used_until, contacts, forgotten
-- ARGV: contact_id, used_ttl (ms)
-- Returns: {OK, listed}
-- Again: it is listed by then.
-- Runs: EXISTS meta, SADD contacts, ZSCORE forgotten
-- Uses: limit_memory, read_time
if redis.call('EXISTS', meta) == 1 then
  return {OK, redis.call('SADD', contacts, contact_id)}
end
if redis.call('ZSCORE', forgotten, contact_id) then
  return {OK, 0}
end
local shown = read_time()
limit_memory(used, used_until, forgotten, contact_id, shown, used_ttl, shown)
return {OK, redis.call('ZSCORE', forgotten, contact_id) and 1 or 0}
