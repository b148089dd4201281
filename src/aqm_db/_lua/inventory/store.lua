-- Stores a public half at the end of its tier's queue.
-- KEYS: row, meta, used, claim, idx GOLD, idx SILVER, idx BRONZE, leases
-- ARGV: request_id, key_id, coin_category, public_key, signature, now (ms), expires_at (ms or ''),
--       row prefix, coin ttl (ms), used ttl (ms), cap BESTIE, cap MATE, cap STRANGER,
--       and the lease whose slot it fills, if any
-- Returns: {OK} | {NOT_REGISTERED} | {EXISTS} | {USED} | {BUDGET, count, cap} | {CORRUPT}
--          | {NO_SLOT}
-- Again: the row remembers the request that stored it, in a field whose name every coin pays for;
--        once the coin was taken, its claim does.
-- Runs: EXISTS claim, HGET meta, EXISTS row, HGET row, HSET row, ZSCORE used, ZREMRANGEBYSCORE used
-- Runs: ZCARD idx, ZRANGE idx, ZREVRANGE idx, ZADD idx, ZREM idx
-- Runs: HGET leases, HSET leases, HDEL leases
-- Uses: coin, lease, typed, unregistered
local row, meta, used, leases = KEYS[1], KEYS[2], KEYS[3], KEYS[8]
local queues = {GOLD = KEYS[5], SILVER = KEYS[6], BRONZE = KEYS[7]}
local request_id, key_id, tier, now = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[6])
local queue, held = queues[tier], ARGV[14]

if redis.call('EXISTS', KEYS[4]) == 1 then
  return {OK}
end
local priority = redis.call('HGET', meta, 'priority')
if not priority then
  return unregistered(meta)
end
local cap = tonumber(({BESTIE = ARGV[11], MATE = ARGV[12], STRANGER = ARGV[13]})[priority])
if not cap then
  return {CORRUPT}
end
if redis.call('EXISTS', row) == 1 then
  return {typed('HGET', row, 'by') == request_id and OK or EXISTS}
end
local used_at = redis.call('ZSCORE', used, key_id)
if used_at and tonumber(used_at) > now - ARGV[10] then
  return {USED}
end
local slots, filled, lease_ends
if held then
  -- What was reserved may be another's by now.
  slots, filled, lease_ends = lease(redis.call('HGET', leases, held))
  if not slots or filled >= slots or lease_ends <= now then
    return {NO_SLOT}
  end
end
local count = redis.call('ZCARD', queue)
if count >= cap and cap > 0 then
  -- Entries that can't be handed out must not keep good coins out.
  for _, id in ipairs(redis.call('ZRANGE', queue, 0, -1)) do
    local fields, found, fault = coin(ARGV[8], id, tier, now, ARGV[9])
    if not fields then
      set_aside(queue, id, found, fault)
      count = count - 1
    end
  end
end
if count >= cap then
  return {BUDGET, count, cap}
end
local newest = redis.call('ZREVRANGE', queue, 0, 0, 'WITHSCORES')[2]
local score = string.format('%.0f', math.max(now, (tonumber(newest) or 0) + 1))
-- Rehearsals: what can't be written is found out while nothing is.
redis.call('ZADD', queue, 'XX', 0, '')
redis.call('ZREM', queue, '')
if held then
  redis.call('HDEL', leases, '')
end
-- Right whatever follows: what was used so long ago can't be used again.
redis.call('ZREMRANGEBYSCORE', used, '-inf', string.format('%.0f', now - ARGV[10]))

-- An entry that lost its row would list the coin twice.
for _, other in pairs(queues) do
  redis.call('ZREM', other, key_id)
end
local fields = {'coin_category', tier, 'public_key', ARGV[4], 'signature', ARGV[5],
  'fetched_at', ARGV[6], 'by', request_id}
if ARGV[7] ~= '' then
  fields[11], fields[12] = 'expires_at', ARGV[7]
end
redis.call('HSET', row, unpack(fields))
redis.call('ZADD', queue, score, key_id)
if held then
  redis.call('HSET', leases, held, lease_of(slots, filled + 1, lease_ends))
end
return {OK}
