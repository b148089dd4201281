-- Uses: parse_integer
-- How far a queue that was full has been looked through for coins that can't be handed out; the
-- contact remembers it, by tier: none up to a place goes stale before some time (ms).
local function parse_look(text)
  local fresh_until, place = string.match(text or '', '^(%d+) (%S+)$')
  fresh_until = parse_integer(fresh_until)
  if fresh_until and (tonumber(place) or place == 'inf' or place == '-inf') then
    return fresh_until, place
  end
end

local function format_look(fresh_until, place)
  return string.format('%.0f %s', fresh_until, place)
end
