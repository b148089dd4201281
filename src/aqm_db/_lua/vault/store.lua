-- Stores a private half; a minted one with its public half, which waits to be published.
-- KEYS: row, stats, expiry, unpublished
-- ARGV: request_id, key_id, coin_category, encrypted_blob, encryption_iv, auth_tag, coin_version
-- ARGV: created_at (ms), ttl (ms), left (ms), public_key?, signature?, most? (count)
--       left: what is left of ttl; the last three are of a minted one, most is of active keys.
-- Returns: {OK} | {EXISTS} | {CORRUPT} | {BUDGET, count, most}
-- Again: the row remembers the request that stored it.
-- Runs: EXISTS row, HGET row, PEXPIRE row, HSET row, HSET stats, ZADD expiry, ZREVRANGE expiry
-- Runs: ZSCORE expiry, ZADD unpublished
-- Uses: expiry_score.format_score, expiry_score.read_tier, format_count, parse_integer
-- Uses: read_counters, try_call
if redis.call('EXISTS', row) == 1 then
  return {try_call('HGET', row, 'by') == request_id and OK or EXISTS}
end
-- The server expired an earlier key of this id, and nobody has looked since.
local expired = redis.call('ZSCORE', expiry, key_id)
local active, earlier = ACTIVE[coin_category], expired and ACTIVE[read_tier(expired)]
local counters = read_counters(stats,
  expired and {active, earlier, 'total_expired'} or {active})
if not counters then
  return {CORRUPT}
end
if most and counters[active] >= most then
  return {BUDGET, counters[active], most}
end
local expires_at = created_at + ttl
if left == ttl then
  -- New keys live as long as each other: whatever their clients' clocks say, they expire in the
  -- order in which they are stored.
  local newest = redis.call('ZREVRANGE', expiry, 0, 0, 'WITHSCORES')[2] or ''
  expires_at = math.max(expires_at, (parse_integer(string.match(newest, '^%d+')) or 0) + 1)
end
-- Rehearsals: what can't be written is found out while nothing is.
redis.call('ZADD', expiry, 'XX', 0, '')
redis.call('PEXPIRE', row, left)
if public_key then
  redis.call('ZADD', unpublished, 'XX', 0, '')
end

redis.call('HSET', row, 'status', 'ACTIVE', 'coin_category', coin_category,
  'encrypted_blob', encrypted_blob, 'encryption_iv', encryption_iv, 'auth_tag', auth_tag,
  'coin_version', coin_version, 'created_at', created_at, 'by', request_id)
if public_key then
  redis.call('HSET', row, 'public_key', public_key, 'signature', signature)
  redis.call('ZADD', unpublished, created_at, key_id)
end
redis.call('PEXPIRE', row, left)
redis.call('ZADD', expiry, format_score(expires_at, coin_category), key_id)
if expired then
  redis.call('HSET', stats, earlier, format_count(counters[earlier] - 1),
    'total_expired', format_count(counters.total_expired + 1))
  counters = read_counters(stats, {active})
end
redis.call('HSET', stats, active, format_count(counters[active] + 1))
return {OK}
