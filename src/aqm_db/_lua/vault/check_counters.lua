-- Compares the counters with a recount of active rows, and sets them to it, if asked to.
-- KEYS: stats, expiry
-- ARGV: 'look' or 'repair', row prefix, key ids that the expiry index may not list as it should ...
-- Returns: {OK, kind, detail, repaired, kind, detail, repaired, ...}
-- Again: the counters are right, so the second run finds nothing.
-- Runs: HMGET stats, HMGET row, ZCARD expiry, ZRANGE expiry, ZSCORE expiry, HSET stats
-- Uses: encode, counters, typed, problems
local stats, expiry, repair = KEYS[1], KEYS[2], ARGV[1] == 'repair'
local FIELDS = {'active_gold', 'active_silver', 'active_bronze', 'total_burned', 'total_expired'}
local PAGE = 1000

local texts = typed('HMGET', stats, unpack(FIELDS))
if not texts or not typed('ZCARD', expiry) then
  return found
end
-- Every active row has an entry, which is in step with the counters, and faster to count.
local rows = {0, 0, 0}
local first = 0
repeat
  local page = redis.call('ZRANGE', expiry, first, first + PAGE - 1, 'WITHSCORES')
  for position = 2, #page, 2 do
    local number = tier_number(page[position])
    rows[number] = rows[number] + 1
  end
  first = first + PAGE
until #page == 0
for position = 3, #ARGV do
  local score = redis.call('ZSCORE', expiry, ARGV[position])
  if score then
    local number = tier_number(score)
    rows[number] = rows[number] - 1
  end
  local tier = active_tier(typed('HMGET', ARGV[2] .. encode(ARGV[position]), 'status',
    'coin_category'))
  for number, name in ipairs(TIERS) do
    rows[number] = rows[number] + (name == tier and 1 or 0)
  end
end

local right = {}
for number, field in ipairs(FIELDS) do
  local value = integer(texts[number] or '0')
  -- What was burned and what expired can't be counted any more: a malformed one starts anew.
  local count = rows[number] or value or 0
  if value ~= count then
    right[#right + 1] = field
    right[#right + 1] = counted(count)
    problem('wrong_counter', string.format('%s is %s, and should be %s', field,
      value and counted(value) or 'no number', counted(count)), repair)
  end
end
if repair and #right > 0 then
  redis.call('HSET', stats, unpack(right))
end
return found
