-- Runs: HSET coming, HDEL coming, HSET totals
-- Uses: read_counts
-- Slots that are reserved and not filled: in coming by their place (TIER:contact_id), and in totals
-- by tier (coming_TIER).

-- The slots of some places, and of all tiers; nil if one is malformed.
local function read_coming(coming, totals, places)
  local fields = {}
  for _, tier in ipairs(TIERS) do
    fields[#fields + 1] = 'coming_' .. tier
  end
  local slots, sums = read_counts(coming, places), read_counts(totals, fields)
  if slots and sums then
    return slots, sums
  end
end

-- Adds slots to places, by which they are, or takes them off. HDEL has been rehearsed.
local function add_coming(coming, totals, slots, sums, changes)
  local kept, emptied, fields = {}, {}, {}
  for place, change in pairs(changes) do
    local sum = 'coming_' .. string.match(place, '^[^:]*')
    slots[place] = math.max((slots[place] or 0) + change, 0)
    sums[sum] = math.max(sums[sum] + change, 0)
    if slots[place] > 0 then
      kept[#kept + 1] = place
      kept[#kept + 1] = string.format('%.0f', slots[place])
    else
      emptied[#emptied + 1] = place
    end
  end
  for sum, count in pairs(sums) do
    fields[#fields + 1] = sum
    fields[#fields + 1] = string.format('%.0f', count)
  end
  redis.call('HSET', totals, unpack(fields))
  if #kept > 0 then
    redis.call('HSET', coming, unpack(kept))
  end
  if #emptied > 0 then
    redis.call('HDEL', coming, unpack(emptied))
  end
end
