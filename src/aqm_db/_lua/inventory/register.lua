-- Registers a contact; one that exists stays as it is.
-- KEYS: meta, used, used_until, claim, contacts, forgotten
-- ARGV: sent (ms), clock (ms), request_id, contact_id, priority, display_name
-- Returns: {OK, created} | {UNKNOWN, shown}
-- Again: the contact remembers the request that made it; once it was forgotten, the claim does.
-- Runs: EXISTS claim, EXISTS meta, HGET meta, HSET meta, PERSIST meta, ZADD used, PERSIST used
-- Runs: ZADD used_until, PERSIST used_until, SADD contacts, SREM contacts, ZREM forgotten
-- Runs: SISMEMBER contacts, ZSCORE forgotten
-- Uses: is_late, read_time
if redis.call('EXISTS', claim) == 1 then
  return {OK, 1}
end
local exists = redis.call('EXISTS', meta) == 1
local is_own = exists and redis.call('HGET', meta, 'by') == request_id
local shown = read_time()
if not is_own and is_late(sent, shown) then
  return {UNKNOWN, shown}
end
if exists and redis.call('SISMEMBER', contacts, contact_id) == 1
  and not redis.call('ZSCORE', forgotten, contact_id) then
  return {OK, is_own and 1 or 0}
end
-- Rehearsals: what can't be written is found out while nothing is. ZADD is the first, since a server
-- that is full refuses nothing any more after what makes room.
redis.call('ZADD', used, 'XX', 0, '')
redis.call('SREM', contacts, '')
redis.call('ZREM', forgotten, '')
if not exists then
  redis.call('ZADD', used_until, 'XX', 0, '')
  redis.call('PERSIST', meta)
end

-- One that exists is listed again: what it was written by may know nothing of the index.
local listed = redis.call('SADD', contacts, contact_id)
if not exists then
  local written = redis.pcall('HSET', meta, 'priority', priority, 'last_msg_at', clock or shown,
    'display_name', display_name, 'by', request_id)
  if type(written) == 'table' and written.err then
    if listed == 1 then
      redis.call('SREM', contacts, contact_id)
    end
    return written
  end
  -- The memory of a contact that was forgotten had an end.
  redis.call('PERSIST', used)
  redis.call('PERSIST', used_until)
end
redis.call('ZREM', forgotten, contact_id)
return {OK, (is_own or not exists) and 1 or 0}
