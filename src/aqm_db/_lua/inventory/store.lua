-- Stores a public half at the end of its tier's queue.
-- KEYS: row, meta, used, used_until, claim, queues[tier], leases, watch, aside
-- ARGV: sent (ms), clock (ms), request_id, key_id, coin_category, public_key, signature
-- ARGV: expires_at (ms)
-- ARGV: row_prefix, coin_ttl (ms), used_ttl (ms), caps[priority] (count), lease?
--       lease: the name of the one whose slot it fills, if any.
-- Returns: {OK} | {NOT_REGISTERED} | {EXISTS} | {USED} | {COIN_EXPIRED} | {BUDGET, count, cap}
--          | {CORRUPT} | {NO_SLOT} | {UNKNOWN, shown}
-- Again: the row remembers the request that stored it, in a field whose name every coin pays for;
--        once the coin was taken, its claim does.
-- Runs: EXISTS claim, HMGET meta, HSET meta, EXISTS row, ZCARD queues
-- Runs: ZRANGE queues, ZREVRANGE queues, ZADD queues, ZREM queues
-- Runs: HGET leases, HSET leases, HDEL leases
-- Uses: confirm_time, forget_uses, inspect_coin, is_late, is_lease_over, lease.format_lease
-- Uses: lease.parse_lease
-- Uses: parse_integer, read_coin, read_time, recall_use, refuse_unregistered, set_aside
-- Uses: write_coin
local tier, queue = coin_category, queues[coin_category]

if redis.call('EXISTS', claim) == 1 then
  return {OK}
end
local shown = read_time()
if is_late(sent, shown) then
  return (read_coin(row) or {}).by == request_id and {OK} or {UNKNOWN, shown}
end
local now = clock or shown
local contact = redis.call('HMGET', meta, 'priority', 'newest')
if not contact[1] then
  return refuse_unregistered(meta)
end
local cap = caps[contact[1]]
if not cap then
  return {CORRUPT}
end
if redis.call('EXISTS', row) == 1 then
  return {(read_coin(row) or {}).by == request_id and OK or EXISTS}
end
local by_server = (lease or not clock) and confirm_time(watch, shown)
local confirmed = clock or by_server
local was_used = recall_use(used, used_until, key_id, confirmed, used_ttl)
if was_used == nil then
  return {CORRUPT}
end
if was_used then
  return {USED}
end
-- It would take the place of a good one until it's selected, and nobody gets it then.
if expires_at and expires_at <= now then
  return {COIN_EXPIRED}
end
local slots, filled, ends
if lease then
  -- What was reserved may be another's by now.
  slots, filled, ends = parse_lease(redis.call('HGET', leases, lease))
  if not slots or filled >= slots or is_lease_over(ends, by_server, shown) then
    return {NO_SLOT}
  end
end
local count = redis.call('ZCARD', queue)
if count >= cap and cap > 0 then
  -- Entries that can't be handed out must not keep good coins out.
  for _, id in ipairs(redis.call('ZRANGE', queue, 0, -1)) do
    local coin, other, fault = inspect_coin(row_prefix, id, tier, confirmed, coin_ttl)
    if not coin then
      set_aside(queue, id, other, fault, aside)
      count = count - 1
    end
  end
end
if count >= cap then
  return {BUDGET, count, cap}
end
-- Above all that were stored before, though none of them may be in the queue: they may come back,
-- and each to its old place.
local last = redis.call('ZREVRANGE', queue, 0, 0, 'WITHSCORES')[2]
local newest = math.max(tonumber(last) or 0, parse_integer(contact[2] or '') or 0)
local score = string.format('%.0f', math.max(now, newest + 1))
-- Rehearsals: what can't be written is found out while nothing is.
redis.call('ZADD', queue, 'XX', 0, '')
redis.call('ZREM', queue, '')
if lease then
  redis.call('HDEL', leases, '')
end
-- Right whatever follows: what was used so long ago can't be used again.
forget_uses(used, used_until, confirmed, used_ttl)

-- An entry that lost its row would list the coin twice. A queue of the wrong type ends it here.
for _, other in pairs(queues) do
  redis.call('ZREM', other, key_id)
end
redis.call('HSET', meta, 'newest', score)
write_coin(row, {coin_category = tier, public_key = public_key, signature = signature,
  fetched_at = now, by = request_id, expires_at = expires_at})
redis.call('ZADD', queue, score, key_id)
if lease then
  redis.call('HSET', leases, lease, format_lease(slots, filled + 1, ends))
end
return {OK}
