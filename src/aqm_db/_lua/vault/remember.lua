-- Remembers private halves that are gone, as a backup knows them. One that was burned is burned here
-- too, if an older state of this vault brought it back; one that merely expired stays.
-- KEYS: stats, expiry, spent
-- ARGV: clock (ms), request_id, row_prefix, grace (ms), spent_ttl (ms), halves ...
--       halves: key_id, fate ('gone', 'purged' or 'burned'), ends (ms), again and again.
-- Returns: {OK, burned} | {CORRUPT}
-- Again: what is remembered isn't changed by it, and what was burned is burned.
-- Runs: HMGET row, ZADD spent, ZREM expiry, HDEL row, PEXPIRE row, HSET stats
-- Uses: counter_fields, encode_id, erase_half, find_active_tier, read_counters, read_time
-- Uses: spent.note_spent, spent.recall_spent, try_call
local counters = read_counters(stats, COUNTER_FIELDS)
if not counters then
  return {CORRUPT}
end
local shown = read_time()
local now = clock or shown
-- Rehearsals: what can't be written is found out while nothing is.
redis.call('ZADD', spent, 'XX', 0, '')
recall_spent(spent, '')
redis.call('ZREM', expiry, '')
redis.call('HDEL', row_prefix, '')
redis.call('PEXPIRE', row_prefix, grace)

local burned = 0
for place = 1, #halves, 3 do
  local id, fate, ends = halves[place], halves[place + 1], tonumber(halves[place + 2])
  local row = row_prefix .. encode_id(id)
  local tier = find_active_tier(try_call('HMGET', row, 'status', 'coin_category'))
  if ends + spent_ttl > now and not tier then
    note_spent(spent, id, fate, ends)
  elseif fate == 'burned' and tier then
    erase_half(row, stats, expiry, spent, id, ends, request_id, grace, ACTIVE[tier], counters)
    burned = burned + 1
  end
end
return {OK, burned}
