-- Runs: HMGET stats
-- Uses: integer
-- The vault's counters. They are checked here, where HINCRBY would fail after the first write.
local ACTIVE = {GOLD = 'active_gold', SILVER = 'active_silver', BRONZE = 'active_bronze'}
-- An expiry score is the time in ms plus the tier as a quarter: the tier of a row that the
-- server expired is known nowhere else. Of two keys, the one that expires later has the larger one.
local QUARTER = {GOLD = 0, SILVER = 0.25, BRONZE = 0.5}
local TIERS = {'GOLD', 'SILVER', 'BRONZE'}
local NUMBERS = {[0] = 1, [0.25] = 2, [0.5] = 3}

-- The place in TIERS that an expiry score names; a score that was written by hand is GOLD's.
local function tier_number(score)
  return NUMBERS[(tonumber(score) or 0) % 1] or 1
end

-- The tier of a row, of its fields status and coin_category, if burning and expiry count it.
local function active_tier(fields)
  return fields and fields[1] == 'ACTIVE' and ACTIVE[fields[2]] and fields[2]
end

-- The value of each field, 0 where there is none; nil if one of them is no counter.
local function counters(stats, ...)
  local values = redis.call('HMGET', stats, ...)
  for position = 1, #values do
    values[position] = integer(values[position] or '0')
    if not values[position] then
      return nil
    end
  end
  return values
end

-- A counter's text, never below zero: a row that was written by hand was not counted.
local function counted(value)
  return string.format('%.0f', math.max(value, 0))
end
