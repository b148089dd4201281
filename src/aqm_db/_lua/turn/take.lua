-- Takes a lease, or prolongs it, unless another holder has it.
-- KEYS: lease
-- ARGV: holder, ttl (ms)
-- Returns: {OK, taken}
-- Again: the holder has it already.
-- Runs: GET lease, SET lease
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  return {OK, 0}
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return {OK, 1}
