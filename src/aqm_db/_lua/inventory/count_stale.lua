-- Counts one contact's coins that are stale at a time.
-- KEYS: queues[tier]
-- ARGV: row_prefix, at (ms), coin_ttl (ms)
-- Returns: {OK, the stale coins of each tier}
-- Again: it only reads.
-- Runs: ZRANGE queues
-- Uses: inspect_coin
local reply = {OK}
for _, tier in ipairs(TIERS) do
  local stale = 0
  for _, id in ipairs(redis.call('ZRANGE', queues[tier], 0, -1)) do
    local _, _, fault = inspect_coin(row_prefix, id, tier, at, coin_ttl)
    if fault == 'stale' then
      stale = stale + 1
    end
  end
  reply[#reply + 1] = stale
end
return reply
