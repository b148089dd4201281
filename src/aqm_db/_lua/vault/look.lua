-- Looks whether the vault has anything to purge: the private half that ends first is the oldest.
-- KEYS: expiry
-- ARGV: clock (ms), row_prefix, age (ms)
-- Returns: {OK, found}
-- Again: it only reads.
-- Runs: ZRANGE expiry, HGET row
-- Uses: encode_id, parse_integer, read_time, try_call
local first = redis.call('ZRANGE', expiry, 0, 0)[1]
if not first then
  return {OK, 0}
end
local created_at = parse_integer(try_call('HGET', row_prefix .. encode_id(first), 'created_at'))
return {OK, created_at and created_at >= (clock or read_time()) - age and 0 or 1}
