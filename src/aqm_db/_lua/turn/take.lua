-- Takes the turn, or prolongs it, unless another holder has it.
-- KEYS: turn
-- ARGV: holder, ttl (ms)
-- Returns: {OK, taken}
-- Again: the holder has it already.
-- Runs: GET turn
-- Uses: has_turn, set_turn
local present = redis.call('GET', turn)
if present ~= holder and has_turn(present, turn) then
  return {OK, 0}
end
set_turn(turn, holder, ttl)
return {OK, 1}
