-- The tier of a private half, of its fields status and coin_category, if burning and expiry count
-- it.
local function find_active_tier(fields)
  return fields and fields[1] == 'ACTIVE' and ACTIVE[fields[2]] and fields[2]
end
