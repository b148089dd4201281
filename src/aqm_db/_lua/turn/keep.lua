-- Has a turn last until it's due again, or only as long as somebody works.
-- KEYS: turn
-- ARGV: before, after, ttl (ms)
-- Returns: {OK, kept}
-- Again: the turn is what it became.
-- Runs: GET turn
-- Uses: set_turn
local present = redis.call('GET', turn)
if present ~= before and present ~= after then
  return {OK, 0}
end
set_turn(turn, after, ttl)
return {OK, 1}
