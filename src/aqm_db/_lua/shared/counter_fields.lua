-- The vault's counters, in the order in which they are returned.
local COUNTER_FIELDS = {}
for _, tier in ipairs(TIERS) do
  COUNTER_FIELDS[#COUNTER_FIELDS + 1] = ACTIVE[tier]
end
COUNTER_FIELDS[#COUNTER_FIELDS + 1] = 'total_burned'
COUNTER_FIELDS[#COUNTER_FIELDS + 1] = 'total_expired'
