-- Puts a coin that was selected and not used back to its old place in its queue.
-- KEYS: row, meta, used, claim, queue, totals, watch
-- ARGV: sent (ms), clock (ms), key_id, coin_category, public_key, signature, fetched_at (ms)
-- ARGV: expires_at (ms), used_at (ms), origin, coin_ttl (ms), claim_ttl (ms), caps[priority] (count)
--       origin: as inventory_select returned it; of none, nobody knows where it was taken from.
-- Returns: {OK, released} | {UNKNOWN, shown}
-- Again: the claim says that the request released.
-- Runs: EXISTS claim, SET claim, ZSCORE used, EXISTS row, HMGET meta, HSET meta, ZADD queue
-- Runs: HINCRBY totals
-- Uses: confirm_time, is_late, look.format_look, look.parse_look, read_time, write_coin
if redis.call('EXISTS', claim) == 1 then
  return {OK, 1}
end
local shown = read_time()
if is_late(sent, shown) then
  return {UNKNOWN, shown}
end
-- Each use has a receipt of its own: a coin that was released, and then taken by another caller,
-- can't be released by the first one again.
local receipt = redis.call('ZSCORE', used, key_id)
if not receipt or tonumber(receipt) ~= used_at or redis.call('EXISTS', row) == 1 then
  return {OK, 0}
end
local looked = 'looked_' .. coin_category
local contact = redis.call('HMGET', meta, 'priority', 'by', looked)
local score, registration = string.match(origin, '^([%d.e+%-]+) (.*)$')
-- Who was forgotten and registered again is another contact: nothing of the first comes back.
if not tonumber(score) or registration ~= (contact[2] or '') then
  return {OK, 0}
end
local cap = caps[contact[1]]
if not cap or cap == 0 then
  return {OK, 0}
end
-- While the clock has jumped, a coin that is stale by it goes back: it may not be, once it's back.
local ends = expires_at or fetched_at + coin_ttl
if ends <= (clock or shown) and ends <= (clock or confirm_time(watch, shown, true)) then
  return {OK, 0}
end
-- Rehearsals: what can't be written is found out while nothing is.
redis.call('ZADD', queue, 'XX', score, '')
redis.call('SET', claim, '', 'PX', 1, 'XX')
-- Too many of them are harmless.
redis.call('HINCRBY', totals, coin_category, 1)

local fresh_until, place = parse_look(contact[3])
if fresh_until and ends < fresh_until then
  -- It comes back to where the queue has been looked through.
  redis.call('HSET', meta, looked, format_look(ends, place))
end
write_coin(row, {coin_category = coin_category, public_key = public_key,
  signature = signature, fetched_at = fetched_at, expires_at = expires_at})
redis.call('ZADD', queue, score, key_id)
redis.call('SET', claim, '', 'PX', claim_ttl)
return {OK, 1}
