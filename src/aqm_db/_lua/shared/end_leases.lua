-- Runs: HDEL leases, ZREM leases_until
-- Uses: coming.add_coming, coming.read_coming, find_place, lease.parse_lease
-- Ends leases, of which the names and the values are given (false: there is no such lease). Returns
-- whether it could: it changes nothing where a count is malformed.
local function end_leases(leases, leases_until, coming, totals, names, values)
  local places, changes = {}, {}
  for number, name in ipairs(names) do
    local slots, filled = parse_lease(values[number])
    local place = slots and find_place(name)
    if place then
      places[#places + 1] = place
      changes[place] = (changes[place] or 0) + filled - slots
    end
  end
  local slots, sums = read_coming(coming, totals, places)
  if not slots then
    return false
  end
  -- Rehearsals: what can't be written is found out while nothing is.
  redis.call('HDEL', leases, '')
  redis.call('ZREM', leases_until, '')
  add_coming(coming, totals, slots, sums, changes)
  redis.call('HDEL', leases, unpack(names))
  redis.call('ZREM', leases_until, unpack(names))
  return true
end
