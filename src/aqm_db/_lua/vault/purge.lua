-- Deletes one private half if it is active, and older than it may be, and remembers its id.
-- KEYS: row, stats, expiry, spent, watch
-- ARGV: clock (ms), key_id, age (ms), ttl (ms)
-- Returns: {OK, deleted} | {CORRUPT}
--          CORRUPT is said of the row; an index that is malformed is an error, since all rows share it.
-- Again: the row is gone, so the second run deletes nothing.
-- Runs: EXISTS row, HMGET row, DEL row, HSET stats, ZREM expiry, ZADD spent
-- Uses: confirm_time, format_count, parse_integer, read_counters, read_time, spent.note_spent
-- Uses: spent.recall_spent, try_call
if redis.call('EXISTS', row) == 0 then
  return {OK, 0}
end
local fields = try_call('HMGET', row, 'status', 'coin_category', 'created_at') or {}
local active = ACTIVE[fields[2]]
local created_at = parse_integer(fields[3])
if fields[1] == 'BURNED' then
  return {OK, 0}
end
local counters = fields[1] == 'ACTIVE' and active and created_at
  and read_counters(stats, {active, 'total_expired'})
if not counters then
  return {CORRUPT}
end
local shown = read_time()
if created_at >= (clock or confirm_time(watch, shown)) - age then
  return {OK, 0}
end
-- Rehearsals: what can't be written is found out while nothing is.
redis.call('ZREM', expiry, '')
redis.call('ZADD', spent, 'XX', 0, '')
recall_spent(spent, '')
redis.call('HSET', stats, active, format_count(counters[active]))

redis.call('DEL', row)
redis.call('ZREM', expiry, key_id)
note_spent(spent, key_id, 'purged', created_at + ttl)
redis.call('HSET', stats, active, format_count(counters[active] - 1),
  'total_expired', format_count(counters.total_expired + 1))
return {OK, 1}
