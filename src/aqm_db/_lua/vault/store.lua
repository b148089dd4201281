-- Stores a private half; a minted one with its public half, which waits to be published.
-- KEYS: row, stats, expiry, unpublished
-- ARGV: request_id, key_id, coin_category, encrypted_blob, encryption_iv, auth_tag,
--       coin_version, created_at (ms), ttl (ms), what is left of it (ms), and of a minted one:
--       public_key, signature, most active keys of its tier
-- Returns: {OK} | {EXISTS} | {CORRUPT} | {BUDGET, count, most}
-- Again: the row remembers the request that stored it.
-- Runs: EXISTS row, HGET row, PEXPIRE row, HSET row, HSET stats, ZADD expiry, ZREVRANGE expiry
-- Runs: ZSCORE expiry, ZADD unpublished
-- Uses: counters, integer, typed
local row, stats, expiry, unpublished = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local request_id, key_id, tier = ARGV[1], ARGV[2], ARGV[3]

if redis.call('EXISTS', row) == 1 then
  return {typed('HGET', row, 'by') == request_id and OK or EXISTS}
end
-- The server expired an earlier key of this id, and nobody has looked since.
local expired = redis.call('ZSCORE', expiry, key_id)
local earlier = expired and ACTIVE[TIERS[tier_number(expired)]]
local needed = expired and {ACTIVE[tier], earlier, 'total_expired'} or {ACTIVE[tier]}
local active = counters(stats, unpack(needed))
if not active then
  return {CORRUPT}
end
if ARGV[13] and active[1] >= tonumber(ARGV[13]) then
  return {BUDGET, active[1], ARGV[13]}
end
local expires_at = ARGV[8] + ARGV[9]
if ARGV[10] == ARGV[9] then
  -- New keys live as long as each other: whatever their clients' clocks say, they expire in the
  -- order in which they are stored.
  local newest = redis.call('ZREVRANGE', expiry, 0, 0, 'WITHSCORES')[2] or ''
  expires_at = math.max(expires_at, (integer(string.match(newest, '^%d+')) or 0) + 1)
end
-- Rehearsals: what can't be written is found out while nothing is.
redis.call('ZADD', expiry, 'XX', 0, '')
redis.call('PEXPIRE', row, ARGV[10])
if ARGV[11] then
  redis.call('ZADD', unpublished, 'XX', 0, '')
end

redis.call('HSET', row, 'status', 'ACTIVE', 'coin_category', tier, 'encrypted_blob', ARGV[4],
  'encryption_iv', ARGV[5], 'auth_tag', ARGV[6], 'coin_version', ARGV[7], 'created_at', ARGV[8],
  'by', request_id)
if ARGV[11] then
  redis.call('HSET', row, 'public_key', ARGV[11], 'signature', ARGV[12])
  redis.call('ZADD', unpublished, ARGV[8], key_id)
end
redis.call('PEXPIRE', row, ARGV[10])
redis.call('ZADD', expiry, string.format('%.2f', expires_at + QUARTER[tier]), key_id)
if expired then
  redis.call('HSET', stats, earlier, counted(active[2] - 1), 'total_expired', counted(active[3] + 1))
  active = counters(stats, ACTIVE[tier])
end
redis.call('HSET', stats, ACTIVE[tier], counted(active[1] + 1))
return {OK}
