-- Whether a lease is over by the time that is confirmed and by what the clock shows, so that a clock
-- that jumps, or is confirmed, ends none. An end that is further off than the lease lasts is of a
-- clock that has been set back since.
local function is_lease_over(ends, confirmed, shown)
  local by_confirmed, by_shown = ends[1] - confirmed, ends[2] - shown
  return (by_confirmed <= 0 or by_confirmed > ends[3]) and (by_shown <= 0 or by_shown > ends[3])
end
