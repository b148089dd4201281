-- Counts one contact's coins that are stale in some time.
-- KEYS: queues[tier]
-- ARGV: clock (ms), row_prefix, within (ms), coin_ttl (ms)
-- Returns: {OK, the stale coins of each tier}
-- Again: it only reads.
-- Runs: ZRANGE queues
-- Uses: inspect_coin, read_time
local shown = read_time()
local at = (clock or shown) + within
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
