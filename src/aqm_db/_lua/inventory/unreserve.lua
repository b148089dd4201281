-- Ends leases.
-- KEYS: leases, leases_until, coming, totals
-- ARGV: names ...
-- Returns: {OK, ended} | {CORRUPT}
-- Again: the leases are gone, so the second run ends none.
-- Runs: HMGET leases
-- Uses: end_leases
local values, held, ended = redis.call('HMGET', leases, unpack(names)), {}, {}
for number, name in ipairs(names) do
  if values[number] then
    ended[#ended + 1] = name
    held[#held + 1] = values[number]
  end
end
if #ended > 0 and not end_leases(leases, leases_until, coming, totals, ended, held) then
  return {CORRUPT}
end
return {OK, #ended}
