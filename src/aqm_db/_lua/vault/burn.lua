-- Burns a private half: erases blob, iv and tag, and leaves a tombstone that answers replays.
-- KEYS: row, stats, expiry
-- ARGV: request_id, key_id, grace (ms), ttl (ms)
-- Returns: {OK} | {NOT_FOUND} | {BURNED} | {CORRUPT}
-- Again: the tombstone remembers the request that burned it.
-- Runs: EXISTS row, HMGET row, HDEL row, PTTL row, PEXPIRE row, HSET row, HSET stats, ZREM expiry
-- Uses: format_count, read_counters
if redis.call('EXISTS', row) == 0 then
  return {NOT_FOUND}
end
local fields = redis.call('HMGET', row, 'status', 'coin_category', 'burned_by')
if fields[1] == 'BURNED' then
  return {fields[3] == request_id and OK or BURNED}
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
