-- Removes one coin, whatever state its row is in.
-- KEYS: row, claim, used, queues[tier]
-- ARGV: key_id, claim_prefix, now (ms), claim_ttl (ms), coin_ttl (ms)
-- Returns: {OK, removed}
-- Again: the claim holds what the request took.
-- Runs: EXISTS row, EXISTS claim, ZREM queues
-- Uses: claim_coin, read_coin
if redis.call('EXISTS', row) == 0 then
  return {OK, redis.call('EXISTS', claim)}
end
-- Rehearsals: what can't be written is found out while nothing is.
for _, queue in pairs(queues) do
  redis.call('ZREM', queue, '')
end
claim_coin(read_coin(row) or {}, key_id, row, claim, claim_prefix, claim_ttl, coin_ttl, used, now,
  queues)
return {OK, 1}
