-- Compares the counters with a recount of active rows, and sets them to it, if asked to.
-- KEYS: stats, expiry
-- ARGV: mode ('look' or 'repair'), row_prefix, key_ids ...
--       key_ids: those that the expiry index may not list as it should.
-- Returns: {OK, kind, detail, repaired, kind, detail, repaired, ...}
-- Again: the counters are right, so the second run finds nothing.
-- Runs: HMGET stats, HMGET row, ZCARD expiry, ZRANGE expiry, ZSCORE expiry, HSET stats
-- Uses: counter_fields, encode_id, expiry_score.read_tier, find_active_tier, format_count
-- Uses: note_problem, parse_integer, try_call
local PAGE = 1000
local reply = {OK}

local texts = try_call('HMGET', stats, unpack(COUNTER_FIELDS))
if not texts or not try_call('ZCARD', expiry) then
  return reply
end
local rows = {}
for _, tier in ipairs(TIERS) do
  rows[ACTIVE[tier]] = 0
end

local function count(tier, change)
  rows[ACTIVE[tier]] = rows[ACTIVE[tier]] + change
end

-- Every active row has an entry, which is in step with the counters, and faster to count.
local first = 0
repeat
  local page = redis.call('ZRANGE', expiry, first, first + PAGE - 1, 'WITHSCORES')
  for place = 2, #page, 2 do
    count(read_tier(page[place]), 1)
  end
  first = first + PAGE
until #page == 0
for _, key_id in ipairs(key_ids) do
  local score = redis.call('ZSCORE', expiry, key_id)
  if score then
    count(read_tier(score), -1)
  end
  local tier = find_active_tier(try_call('HMGET', row_prefix .. encode_id(key_id), 'status',
    'coin_category'))
  if tier then
    count(tier, 1)
  end
end

local right = {}
for place, field in ipairs(COUNTER_FIELDS) do
  local value = parse_integer(texts[place] or '0')
  -- What was burned and what expired can't be counted any more: a malformed one starts anew.
  local recount = rows[field] or value or 0
  if value ~= recount then
    right[#right + 1] = field
    right[#right + 1] = format_count(recount)
    note_problem(reply, 'wrong_counter', string.format('%s is %s, and should be %s', field,
      value and format_count(value) or 'no number', format_count(recount)), mode == 'repair')
  end
end
if mode == 'repair' and #right > 0 then
  redis.call('HSET', stats, unpack(right))
end
return reply
