-- Gives the turn back, if its holder still has it.
-- KEYS: turn
-- ARGV: holder
-- Returns: {OK, dropped}
-- Again: the turn is gone, or another's.
-- Runs: GET turn, DEL turn
if redis.call('GET', turn) ~= holder then
  return {OK, 0}
end
return {OK, redis.call('DEL', turn)}
