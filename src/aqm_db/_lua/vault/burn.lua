-- Burns a private half: erases blob, iv and tag, leaves a tombstone that answers replays, and
-- remembers the id.
-- KEYS: row, stats, expiry, spent, watch
-- ARGV: sent (ms), clock (ms), request_id, key_id, grace (ms), ttl (ms), spent_ttl (ms)
-- ARGV: most (count)
--       most: ids to forget.
-- Returns: {OK} | {NOT_FOUND} | {BURNED} | {EXPIRED} | {CORRUPT} | {UNKNOWN, shown}
-- Again: the tombstone remembers the request that burned it.
-- Runs: EXISTS row, HMGET row, HDEL row, PTTL row, PEXPIRE row, ZREM expiry, ZADD spent
-- Uses: confirm_time, erase_half, forget_spent, is_late, name_spent, parse_integer, read_counters
-- Uses: read_time, spent.recall_spent
local exists = redis.call('EXISTS', row) == 1
local fields = exists
  and redis.call('HMGET', row, 'status', 'coin_category', 'burned_by', 'created_at') or {}
if fields[1] == 'BURNED' and fields[3] == request_id then
  return {OK}
end
local shown = read_time()
if is_late(sent, shown) then
  return {UNKNOWN, shown}
end
if not exists then
  return {name_spent(spent, expiry, key_id)}
end
if fields[1] == 'BURNED' then
  return {BURNED}
end
local active = ACTIVE[fields[2]]
local counters = fields[1] == 'ACTIVE' and active
  and read_counters(stats, {active, 'total_burned'})
if not counters then
  return {CORRUPT}
end
-- Rehearsals: what can't be written is found out while nothing is.
redis.call('ZREM', expiry, '')
redis.call('ZADD', spent, 'XX', 0, '')
recall_spent(spent, '')
redis.call('HDEL', row, '')
local left = redis.call('PTTL', row)
redis.call('PEXPIRE', row, left > 0 and left or ttl)
-- Right whatever follows: nobody could bring these back.
forget_spent(spent, clock or confirm_time(watch, shown), spent_ttl, most)

local ends = (parse_integer(fields[4]) or clock or shown) + ttl
erase_half(row, stats, expiry, spent, key_id, ends, request_id, grace, active, counters)
return {OK}
