-- Ends leases. What was measured while they ran may miss the coins stored under them, so the epoch
-- moves on.
-- KEYS: leases, epoch
-- ARGV: names ...
-- Returns: {OK, ended} | {CORRUPT}
-- Again: the leases are gone, so the second run ends none.
-- Runs: GET epoch, HEXISTS leases, HDEL leases, INCRBY epoch
-- Uses: parse_integer
if not parse_integer(redis.call('GET', epoch) or '0') then
  return {CORRUPT}
end
local ended = 0
for _, name in ipairs(names) do
  ended = ended + redis.call('HEXISTS', leases, name)
end
if ended > 0 then
  -- Rehearsal: what can't be written is found out while nothing is.
  redis.call('HDEL', leases, '')
  redis.call('INCRBY', epoch, 1)
  for _, name in ipairs(names) do
    redis.call('HDEL', leases, name)
  end
end
return {OK, ended}
