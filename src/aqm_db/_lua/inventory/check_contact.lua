-- Looks at where one contact is listed, and mends that, if asked to: in the index of contacts if it's
-- registered, else in that of forgotten ones, as long as its used coins are remembered.
-- KEYS: meta, used, used_until, contacts, forgotten
-- ARGV: clock (ms), contact_id, mode ('look' or 'repair'), used_ttl (ms)
-- Returns: {OK, kind, detail, repaired, kind, detail, repaired, ...}
-- Again: what was mended is no problem any more.
-- Runs: EXISTS meta, EXISTS used, EXISTS used_until, SISMEMBER contacts, ZSCORE forgotten
-- Runs: SADD contacts, SREM contacts, ZADD forgotten, ZREM forgotten
-- Uses: limit_memory, note_problem, read_time, try_call
local repair, reply = mode == 'repair', {OK}
local shown = read_time()
local is_registered = redis.call('EXISTS', meta) == 1
local is_remembered = redis.call('EXISTS', used) + redis.call('EXISTS', used_until) > 0
-- nil where the index has the wrong type: then nothing is said of it.
local listed = try_call('SISMEMBER', contacts, contact_id)
local ends = try_call('ZSCORE', forgotten, contact_id)

local is_lost = listed == 0 and is_registered
local is_surplus = listed == 1 and not is_registered
local is_forgotten_lost = ends == false and is_remembered and not is_registered
-- One whose memory has ended leaves by and by.
local is_forgotten_surplus = ends and (is_registered
  or not is_remembered and tonumber(ends) > shown)
if is_lost then
  note_problem(reply, 'orphaned_row', 'the index of contacts does not list it', repair)
end
if is_surplus then
  note_problem(reply, 'dangling_entry',
    'the index of contacts lists it, and there is no such contact', repair)
end
if is_forgotten_lost then
  note_problem(reply, 'orphaned_row', 'the index of forgotten contacts does not list it', repair)
end
if is_forgotten_surplus then
  note_problem(reply, 'dangling_entry', 'the index of forgotten contacts lists it, and '
    .. (is_registered and 'it is registered' or 'nothing of it is remembered'), repair)
end
if not repair then
  return reply
end

-- Rehearsals: what can't be written is found out while nothing is.
if is_lost or is_surplus then
  redis.call('SREM', contacts, '')
end
if is_forgotten_surplus or is_forgotten_lost then
  redis.call('ZREM', forgotten, '')
  redis.call('ZADD', forgotten, 'XX', 0, '')
end
if is_lost then
  redis.call('SADD', contacts, contact_id)
elseif is_surplus then
  redis.call('SREM', contacts, contact_id)
end
if is_forgotten_surplus then
  redis.call('ZREM', forgotten, contact_id)
elseif is_forgotten_lost then
  limit_memory(used, used_until, forgotten, contact_id, clock or shown, used_ttl, shown)
end
return reply
