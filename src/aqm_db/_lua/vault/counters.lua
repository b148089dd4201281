-- Reads the counters, after taking off what the server expired since the last look, whose ids are
-- remembered then.
-- KEYS: stats, expiry, spent, watch
-- ARGV: clock (ms), row_prefix, spent_ttl (ms), most (count)
--       most: rows to look at, and ids to forget.
-- Returns: {OK, taken off, early, the active keys of each tier, total_burned, total_expired}
--          | {CORRUPT}
--          early: how many of those taken off are gone before their time.
-- Again: each expired row leaves the expiry index once.
-- Runs: ZRANGE expiry, EXISTS row, HSET stats, ZREM expiry, ZADD spent, HGET watch, HSET watch
-- Uses: confirm_time, counter_fields, encode_id, expiry_score.read_tier, forget_spent, format_count
-- Uses: parse_integer, read_counters, read_time, spent.note_spent, spent.recall_spent
local counters = read_counters(stats, COUNTER_FIELDS)
if not counters then
  return {CORRUPT}
end
-- The index is in the order in which rows end. Rows may be gone before their time all the same (the
-- server's clock was set ahead for a while, or somebody deleted them), so one that is still there
-- doesn't end the search.
local gone, ends, early = {}, {}, 0
local shown = read_time()
local now = clock or shown
local listed = redis.call('ZRANGE', expiry, 0, most - 1, 'WITHSCORES')
for place = 1, #listed, 2 do
  if redis.call('EXISTS', row_prefix .. encode_id(listed[place])) == 0 then
    gone[#gone + 1] = listed[place]
    -- The index goes by the server's clock.
    ends[#gone] = math.floor(tonumber(listed[place + 1])) - shown + now
    local active = ACTIVE[read_tier(listed[place + 1])]
    counters[active] = math.max(counters[active] - 1, 0)
    counters.total_expired = counters.total_expired + 1
    if tonumber(listed[place + 1]) - shown > CLOCK_SLACK then
      early = early + 1
    end
  end
end
local taken_off = #gone
if taken_off > 0 then
  local changed = {}
  for _, field in ipairs(COUNTER_FIELDS) do
    if field ~= 'total_burned' then
      changed[#changed + 1] = field
      changed[#changed + 1] = format_count(counters[field])
    end
  end
  local written, failure = pcall(function()
    redis.call('ZREM', expiry, '')
    redis.call('ZADD', spent, 'XX', 0, '')
    recall_spent(spent, '')
    forget_spent(spent, clock or confirm_time(watch, shown), spent_ttl, most)
    redis.call('HSET', stats, unpack(changed))
    for position, id in ipairs(gone) do
      note_spent(spent, id, 'gone', ends[position])
    end
    redis.call('ZREM', expiry, unpack(gone))
    if early > 0 then
      local lost = parse_integer(redis.call('HGET', watch, 'lost') or '0') or 0
      redis.call('HSET', watch, 'lost', format_count(lost + early), 'lost_at', shown)
    end
  end)
  if not written then
    -- The numbers are right all the same, where these were all: whoever can write takes them off.
    if taken_off == most then
      error(failure)
    end
    taken_off, early = 0, 0
  end
end
local reply = {OK, taken_off, early}
for _, field in ipairs(COUNTER_FIELDS) do
  reply[#reply + 1] = counters[field]
end
return reply
