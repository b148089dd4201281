-- A lease: slots of one contact's tier, kept for coins that are on their way. Its field in the hash
-- is request_id:TIER:contact_id; its value holds its slots, how many of them are filled, when it
-- ends, by the time that is confirmed and by what the clock shows, and how long it lasts (ms).
local function parse_lease(text)
  local slots, filled, ends, shows, lasts = string.match(text or '',
    '^(%d+) (%d+) (%d+) (%d+) (%d+)$')
  return tonumber(slots), tonumber(filled), {tonumber(ends), tonumber(shows), tonumber(lasts)}
end

local function format_lease(slots, filled, ends)
  return string.format('%.0f %.0f %.0f %.0f %.0f', slots, filled, unpack(ends))
end
