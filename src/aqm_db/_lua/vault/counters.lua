-- Reads the counters, after taking off what the server expired since the last look.
-- KEYS: stats, expiry
-- ARGV: row_prefix, most (count)
--       most: rows to take off.
-- Returns: {OK, taken off, the active keys of each tier, total_burned, total_expired} | {CORRUPT}
-- Again: each expired row leaves the expiry index once.
-- Runs: ZRANGE expiry, EXISTS row, HSET stats, ZREM expiry
-- Uses: counter_fields, encode_id, expiry_score.read_tier, format_count, read_counters
local counters = read_counters(stats, COUNTER_FIELDS)
if not counters then
  return {CORRUPT}
end
-- The index is in the order of expiry, so the first row that is still there ends the search.
-- No clock is asked: the server's decides, and clients' may differ from it.
local gone = {}
while #gone < most do
  local head = redis.call('ZRANGE', expiry, #gone, #gone, 'WITHSCORES')
  if not head[1] or redis.call('EXISTS', row_prefix .. encode_id(head[1])) == 1 then
    break
  end
  gone[#gone + 1] = head[1]
  local active = ACTIVE[read_tier(head[2])]
  counters[active] = math.max(counters[active] - 1, 0)
  counters.total_expired = counters.total_expired + 1
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
    redis.call('HSET', stats, unpack(changed))
    redis.call('ZREM', expiry, unpack(gone))
  end)
  if not written then
    -- The numbers are right all the same, where these were all: whoever can write takes them off.
    if taken_off == most then
      error(failure)
    end
    taken_off = 0
  end
end
local reply = {OK, taken_off}
for _, field in ipairs(COUNTER_FIELDS) do
  reply[#reply + 1] = counters[field]
end
return reply
