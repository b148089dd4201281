-- An expiry score is the time in ms plus the tier, its place after the first one, as quarters: the
-- tier of a row that the server expired is known nowhere else. Of two keys, the one that expires
-- later has the larger score.
local QUARTER = 0.25

local function format_score(expires_at, tier)
  for place, each in ipairs(TIERS) do
    if each == tier then
      return string.format('%.2f', expires_at + (place - 1) * QUARTER)
    end
  end
end

-- The tier that a score names; one that was written by hand is the first one's.
local function read_tier(score)
  return TIERS[(tonumber(score) or 0) % 1 / QUARTER + 1] or TIERS[1]
end
