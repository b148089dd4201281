-- Whose slots a lease has, of which tier: TIER:contact_id; nil if its name is malformed.
local function find_place(name)
  local place = string.match(name, '^[^:]*:(.*)$')
  for _, tier in ipairs(TIERS) do
    if place and string.sub(place, 1, #tier + 1) == tier .. ':' then
      return place
    end
  end
end
