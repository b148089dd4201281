-- Puts a coin that was selected and not used back at the head of its queue.
-- KEYS: row, meta, used, claim, queue
-- ARGV: sent (ms), clock (ms), key_id, coin_category, public_key, signature, fetched_at (ms), expires_at (ms)
-- ARGV: used_at (ms), coin_ttl (ms), claim_ttl (ms), caps[priority] (count)
-- Returns: {OK, released} | {UNKNOWN, shown}
-- Again: the claim says that the request released.
-- Runs: EXISTS claim, SET claim, ZSCORE used, EXISTS row, HGET meta, ZRANGE queue, ZADD queue
-- Uses: is_late, read_time, write_coin
if redis.call('EXISTS', claim) == 1 then
  return {OK, 1}
end
local _, shown = read_time()
if is_late(sent, shown) then
  return {UNKNOWN, shown}
end
-- Each use has a receipt of its own: a coin that was released, and then taken by another caller,
-- can't be released by the first one again.
local receipt = redis.call('ZSCORE', used, key_id)
if not receipt or tonumber(receipt) ~= used_at or redis.call('EXISTS', row) == 1 then
  return {OK, 0}
end
local cap = caps[redis.call('HGET', meta, 'priority')]
if not cap or cap == 0 or (expires_at or fetched_at + coin_ttl) <= (clock or shown) then
  return {OK, 0}
end
local head = redis.call('ZRANGE', queue, 0, 0, 'WITHSCORES')[2]
local score = math.min(fetched_at, (tonumber(head) or math.huge) - 1)
-- Rehearsals: what can't be written is found out while nothing is.
redis.call('ZADD', queue, 'XX', 0, '')
redis.call('SET', claim, '', 'PX', 1, 'XX')

write_coin(row, {coin_category = coin_category, public_key = public_key,
  signature = signature, fetched_at = fetched_at, expires_at = expires_at})
redis.call('ZADD', queue, string.format('%.0f', score), key_id)
redis.call('SET', claim, '', 'PX', claim_ttl)
return {OK, 1}
