-- Counts one contact's coins that are stale at a time.
-- KEYS: idx GOLD, idx SILVER, idx BRONZE
-- ARGV: row prefix, the time (ms), coin ttl (ms)
-- Returns: {OK, stale GOLD, stale SILVER, stale BRONZE}
-- Again: it only reads.
-- Runs: ZRANGE idx
-- Uses: coin
local stale = {0, 0, 0}
for number, tier in ipairs({'GOLD', 'SILVER', 'BRONZE'}) do
  for _, id in ipairs(redis.call('ZRANGE', KEYS[number], 0, -1)) do
    local _, _, fault = coin(ARGV[1], id, tier, tonumber(ARGV[2]), ARGV[3])
    if fault == 'stale' then
      stale[number] = stale[number] + 1
    end
  end
end
return {OK, stale[1], stale[2], stale[3]}
