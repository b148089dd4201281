-- Deletes one private half if it is active and was created before a time.
-- KEYS: row, stats, expiry
-- ARGV: key_id, created before (ms)
-- Returns: {OK, deleted} | {CORRUPT}
-- Again: the row is gone, so the second run deletes nothing.
-- Runs: EXISTS row, HMGET row, DEL row, HSET stats, ZREM expiry
-- Uses: counters
local row, stats, expiry = KEYS[1], KEYS[2], KEYS[3]

if redis.call('EXISTS', row) == 0 then
  return {OK, 0}
end
local fields = redis.call('HMGET', row, 'status', 'coin_category', 'created_at')
local active = ACTIVE[fields[2]]
local created_at = integer(fields[3])
if fields[1] == 'BURNED' then
  return {OK, 0}
end
local values = fields[1] == 'ACTIVE' and active and created_at
  and counters(stats, active, 'total_expired')
if not values then
  return {CORRUPT}
end
if created_at >= tonumber(ARGV[2]) then
  return {OK, 0}
end
-- Rehearsals: what can't be written is found out while nothing is.
redis.call('ZREM', expiry, '')
redis.call('HSET', stats, active, counted(values[1]))

redis.call('DEL', row)
redis.call('ZREM', expiry, ARGV[1])
redis.call('HSET', stats, active, counted(values[1] - 1), 'total_expired', counted(values[2] + 1))
return {OK, 1}
