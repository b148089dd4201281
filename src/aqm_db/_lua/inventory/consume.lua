-- Removes one coin, whatever state its row is in.
-- KEYS: row, claim, used, used_until, queues[tier], aside
-- ARGV: sent (ms), clock (ms), key_id, claim_prefix, claim_ttl (ms), coin_ttl (ms), used_ttl (ms)
-- Returns: {OK, removed} | {UNKNOWN, shown}
-- Again: the claim holds what the request took.
-- Runs: EXISTS row, EXISTS claim, ZREM queues, ZREM aside
-- Uses: claim_coin, is_late, name_aside, read_coin, read_time
if redis.call('EXISTS', claim) == 1 then
  return {OK, 1}
end
local shown = read_time()
if is_late(sent, shown) then
  return {UNKNOWN, shown}
end
if redis.call('EXISTS', row) == 0 then
  return {OK, 0}
end
-- Rehearsals: what can't be written is found out while nothing is.
for _, queue in pairs(queues) do
  redis.call('ZREM', queue, '')
end
redis.call('ZREM', aside, '')
claim_coin(read_coin(row) or {}, key_id, row, claim, claim_prefix, claim_ttl, coin_ttl, used,
  used_until, used_ttl, clock or shown, queues, '')
redis.call('ZREM', aside, name_aside(row))
return {OK, 1}
