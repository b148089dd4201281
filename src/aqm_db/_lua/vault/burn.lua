-- Burns a private half: erases blob, iv and tag, and leaves a tombstone that answers replays.
-- KEYS: row, stats, expiry
-- ARGV: sent (ms), request_id, key_id, grace (ms), ttl (ms)
-- Returns: {OK} | {NOT_FOUND} | {BURNED} | {CORRUPT} | {UNKNOWN, shown}
-- Again: the tombstone remembers the request that burned it.
-- Runs: EXISTS row, HMGET row, HDEL row, PTTL row, PEXPIRE row, HSET row, HSET stats, ZREM expiry
-- Uses: format_count, is_late, read_counters, read_time
local exists = redis.call('EXISTS', row) == 1
local fields = exists and redis.call('HMGET', row, 'status', 'coin_category', 'burned_by') or {}
if fields[1] == 'BURNED' and fields[3] == request_id then
  return {OK}
end
local _, shown = read_time()
if is_late(sent, shown) then
  return {UNKNOWN, shown}
end
if not exists then
  return {NOT_FOUND}
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
redis.call('HDEL', row, '')
local left = redis.call('PTTL', row)
redis.call('PEXPIRE', row, left > 0 and left or ttl)

redis.call('HSET', row, 'status', 'BURNED', 'burned_by', request_id)
redis.call('HDEL', row, 'encrypted_blob', 'encryption_iv', 'auth_tag')
redis.call('PEXPIRE', row, grace)
redis.call('ZREM', expiry, key_id)
redis.call('HSET', stats, active, format_count(counters[active] - 1),
  'total_burned', format_count(counters.total_burned + 1))
return {OK}
