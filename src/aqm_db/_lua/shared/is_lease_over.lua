-- Whether a lease is over by the time that is confirmed and by what the clock shows, so that a clock
-- that jumps, or is confirmed, ends none. An end that is much further off than the lease lasts is of
-- a clock that has been set back since; a little further may be what was noted a while ago.
local function is_lease_over(ends, confirmed, shown)
  local by_confirmed, by_shown, most = ends[1] - confirmed, ends[2] - shown, ends[3] + LONGEST_PAUSE
  return (by_confirmed <= 0 or by_confirmed > most) and (by_shown <= 0 or by_shown > most)
end
