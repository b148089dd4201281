-- Stores a public half at the end of its tier's queue.
-- KEYS: row, meta, used, used_until, claim, queues[tier], totals, leases, coming, watch, aside
-- ARGV: sent (ms), clock (ms), request_id, key_id, coin_category, public_key, signature
-- ARGV: expires_at (ms)
-- ARGV: row_prefix, coin_ttl (ms), used_ttl (ms), caps[priority] (count), lease?
--       lease: the name of the one whose slot it fills, if any.
-- Returns: {OK} | {NOT_REGISTERED} | {EXISTS} | {USED} | {COIN_EXPIRED} | {BUDGET, count, cap}
--          | {CORRUPT} | {NO_SLOT} | {UNFINISHED} | {UNKNOWN, shown}
-- Again: the row remembers the request that stored it, in a field whose name every coin pays for;
--        once the coin was taken, its claim does.
-- Runs: EXISTS claim, HMGET meta, HSET meta, EXISTS row, EXISTS used_until, ZCARD queues
-- Runs: ZREVRANGE queues, ZADD queues, ZREM queues, HINCRBY totals
-- Runs: HGET leases, HSET leases, HDEL leases
-- Uses: coming.add_coming, coming.read_coming, confirm_time, find_place, forget_uses, is_late
-- Uses: is_lease_over, lease.format_lease, lease.parse_lease, make_room, parse_integer, read_coin
-- Uses: read_time, recall_use, refuse_unregistered, write_coin
local LOOKS = 100
local MINUTE = 60000
local tier, queue = coin_category, queues[coin_category]

local shown = read_time()
local has_row, outlives = false, false
-- One command for what is hardly ever there.
if redis.call('EXISTS', claim, row, used_until) > 0 then
  if redis.call('EXISTS', claim) == 1 then
    return {OK}
  end
  has_row = redis.call('EXISTS', row) == 1
  outlives = redis.call('EXISTS', used_until) == 1
end
if is_late(sent, shown) then
  return has_row and (read_coin(row) or {}).by == request_id and {OK} or {UNKNOWN, shown}
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
if has_row then
  return {(read_coin(row) or {}).by == request_id and OK or EXISTS}
end

local by_server
-- Until when something is over for certain, which few stores ask.
local function confirm()
  by_server = by_server or (lease or not clock) and confirm_time(watch, shown)
  return clock or by_server
end

local was_used = recall_use(used, outlives and used_until, key_id, 0, used_ttl)
if was_used == nil then
  return {CORRUPT}
end
if was_used and recall_use(used, outlives and used_until, key_id, confirm(), used_ttl) then
  return {USED}
end
-- It would take the place of a good one until it's selected, and nobody gets it then.
if expires_at and expires_at <= now then
  return {COIN_EXPIRED}
end
local slots, filled, ends, coming_slots, sums, place
if lease then
  confirm()
  -- What was reserved may be another's by now.
  slots, filled, ends = parse_lease(redis.call('HGET', leases, lease))
  place = find_place(lease)
  if not slots or not place or filled >= slots or is_lease_over(ends, by_server, shown) then
    return {NO_SLOT}
  end
  coming_slots, sums = read_coming(coming, totals, {place})
  if not coming_slots then
    return {CORRUPT}
  end
end

local count = redis.call('ZCARD', queue)
if count >= cap and cap > 0 then
  local looks, gone = make_room(queue, meta, tier, row_prefix, aside, confirm(), coin_ttl, LOOKS)
  count = count - gone
  if count >= cap and looks == LOOKS then
    return {UNFINISHED}
  end
end
if count >= cap then
  return {BUDGET, count, cap}
end
-- Above all that were stored before, though none of them may be in the queue: they may come back,
-- and each to its old place.
local newest = parse_integer(contact[2] or '')
  or tonumber(redis.call('ZREVRANGE', queue, 0, 0, 'WITHSCORES')[2]) or 0
local score = string.format('%.0f', math.max(now, newest + 1))
if lease then
  -- A rehearsal: what can't be written is found out while nothing is.
  redis.call('HDEL', leases, '')
end
-- Right whatever follows: too many of them are harmless; an entry that lost its row would list the
-- coin twice (a queue of the wrong type ends it here); and what was used so long ago can't be used
-- again, which is looked at once a minute.
redis.call('HINCRBY', totals, tier, 1)
for _, other in pairs(queues) do
  if other ~= queue then
    redis.call('ZREM', other, key_id)
  end
end
if math.floor(now / MINUTE) ~= math.floor(newest / MINUTE) then
  forget_uses(used, used_until, confirm(), used_ttl)
end

redis.call('ZADD', queue, score, key_id)
local noted = redis.pcall('HSET', meta, 'newest', score)
if type(noted) == 'table' then
  -- Nothing but an ACL forbids what is left.
  redis.call('ZREM', queue, key_id)
  error(noted.err)
end
write_coin(row, {coin_category = tier, public_key = public_key, signature = signature,
  fetched_at = now, by = request_id, expires_at = expires_at})
if lease then
  redis.call('HSET', leases, lease, format_lease(slots, filled + 1, ends))
  add_coming(coming, totals, coming_slots, sums, {[place] = -1})
end
return {OK}
