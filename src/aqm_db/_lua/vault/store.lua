-- Stores a private half; a minted one with its public half, which waits to be published.
-- KEYS: row, stats, expiry, spent, unpublished, watch
-- ARGV: sent (ms), clock (ms), request_id, key_id, coin_category, encrypted_blob, encryption_iv
-- ARGV: auth_tag, coin_version, since (ms), ttl (ms), public_key?, signature?, most? (count)
-- ARGV: row_prefix?
--       since: when it was created, if that isn't now; the last four are of a minted one, most is
--       of active keys.
-- Returns: {OK} | {EXISTS} | {BURNED} | {EXPIRED} | {CORRUPT} | {BUDGET, count, most}
--          | {UNKNOWN, shown}
-- Again: the row remembers the request that stored it.
-- Runs: EXISTS row, HMGET row, PEXPIREAT row, HSET row, HSET stats, ZADD expiry, ZSCORE expiry
-- Runs: ZADD unpublished, ZRANGE unpublished, ZREM unpublished, EXISTS row, ZREM spent
-- Uses: confirm_time, encode_id, expiry_score.format_score, expiry_score.read_tier, format_count
-- Uses: is_late, read_counters, read_time, spent.recall_spent, try_call
local exists = redis.call('EXISTS', row) == 1
local fields = exists and try_call('HMGET', row, 'by', 'status') or {}
if fields[1] == request_id then
  return {OK}
end
local shown = read_time()
if is_late(sent, shown) then
  return {UNKNOWN, shown}
end
if exists then
  return {fields[2] == 'BURNED' and BURNED or EXISTS}
end
if not clock then
  -- Whoever erases needs to know when the clock was last as it should be.
  confirm_time(watch, shown)
end
local now = clock or shown
local created_at = since or now
-- By the server's clock, which ends it: so the index is in the order in which rows end, whatever
-- clocks do.
local expires_at = shown + math.max(created_at + ttl - now, 1)
-- The server expired an earlier key of this id, and nobody has looked since.
local expired = redis.call('ZSCORE', expiry, key_id)
local fate, ends = recall_spent(spent, key_id)
if fate == 'burned' then
  return {BURNED}
end
if fate or expired then
  -- Only one that comes back with its age, and that the server let go before its time, was lost.
  ends = ends or tonumber(expired) - shown + now
  local is_lost = since and fate ~= 'purged' and ends > now
  if not is_lost then
    return {EXPIRED}
  end
end
local active, earlier = ACTIVE[coin_category], expired and ACTIVE[read_tier(expired)]
local counters = read_counters(stats,
  expired and {active, earlier, 'total_expired'} or {active})
if not counters then
  return {CORRUPT}
end
if most and counters[active] >= most then
  return {BUDGET, counters[active], most}
end
-- Rehearsals: what can't be written is found out while nothing is.
redis.call('ZADD', expiry, 'XX', 0, '')
redis.call('ZREM', spent, '')
redis.call('PEXPIREAT', row, expires_at)
if public_key then
  redis.call('ZADD', unpublished, 'XX', 0, '')
  -- Right whatever follows. Where nobody publishes, what has expired would pile up: so each one that
  -- is added takes off up to two, and no more are on the list than have been minted in a lifetime.
  for _, oldest in ipairs(redis.call('ZRANGE', unpublished, 0, 1)) do
    if redis.call('EXISTS', row_prefix .. encode_id(oldest)) == 0 then
      redis.call('ZREM', unpublished, oldest)
    end
  end
end

redis.call('HSET', row, 'status', 'ACTIVE', 'coin_category', coin_category,
  'encrypted_blob', encrypted_blob, 'encryption_iv', encryption_iv, 'auth_tag', auth_tag,
  'coin_version', coin_version, 'created_at', created_at, 'by', request_id)
if public_key then
  redis.call('HSET', row, 'public_key', public_key, 'signature', signature)
  redis.call('ZADD', unpublished, created_at, key_id)
end
redis.call('PEXPIREAT', row, expires_at)
redis.call('ZADD', expiry, format_score(expires_at, coin_category), key_id)
redis.call('ZREM', spent, key_id)
if expired then
  redis.call('HSET', stats, earlier, format_count(counters[earlier] - 1),
    'total_expired', format_count(counters.total_expired + 1))
  counters = read_counters(stats, {active})
end
redis.call('HSET', stats, active, format_count(counters[active] + 1))
return {OK}
