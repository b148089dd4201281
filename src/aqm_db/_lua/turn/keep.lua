-- Has a turn last until it's due again, or only as long as somebody works.
-- KEYS: turn
-- ARGV: before, after, ttl (ms)
-- Returns: {OK, kept}
-- Again: the turn is what it became.
-- Runs: GET turn, SET turn
local present = redis.call('GET', turn)
if present ~= before and present ~= after then
  return {OK, 0}
end
redis.call('SET', turn, after, 'PX', ttl)
return {OK, 1}
