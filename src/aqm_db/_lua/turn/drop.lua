-- Gives a lease back, if its holder still has it.
-- KEYS: lease
-- ARGV: holder
-- Returns: {OK, dropped}
-- Again: the lease is gone, or another's.
-- Runs: GET lease, DEL lease
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return {OK, 0}
end
return {OK, redis.call('DEL', KEYS[1])}
