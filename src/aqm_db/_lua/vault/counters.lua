-- Reads the counters, after taking off what the server expired since the last look.
-- KEYS: stats, expiry
-- ARGV: row prefix, most rows to take off
-- Returns: {OK, taken off, active_gold, active_silver, active_bronze, total_burned,
--          total_expired} | {CORRUPT}
-- Again: each expired row leaves the expiry index once.
-- Runs: ZRANGE expiry, EXISTS row, HSET stats, ZREM expiry
-- Uses: encode, counters
local stats, expiry = KEYS[1], KEYS[2]
local FIELDS = {'active_gold', 'active_silver', 'active_bronze', 'total_burned', 'total_expired'}

local values = counters(stats, unpack(FIELDS))
if not values then
  return {CORRUPT}
end
-- The index is in the order of expiry, so the first row that is still there ends the search.
-- No clock is asked: the server's decides, and clients' may differ from it.
local gone = {}
while #gone < tonumber(ARGV[2]) do
  local head = redis.call('ZRANGE', expiry, #gone, #gone, 'WITHSCORES')
  if not head[1] or redis.call('EXISTS', ARGV[1] .. encode(head[1])) == 1 then
    break
  end
  gone[#gone + 1] = head[1]
  local tier = tier_number(head[2])
  values[tier] = math.max(values[tier] - 1, 0)
  values[5] = values[5] + 1
end
local taken_off = #gone
if taken_off > 0 then
  local written, failure = pcall(function()
    redis.call('ZREM', expiry, '')
    redis.call('HSET', stats, FIELDS[1], counted(values[1]), FIELDS[2], counted(values[2]),
      FIELDS[3], counted(values[3]), FIELDS[5], counted(values[5]))
    redis.call('ZREM', expiry, unpack(gone))
  end)
  if not written then
    -- The numbers are right all the same, where these were all: whoever can write takes them off.
    if taken_off == tonumber(ARGV[2]) then
      error(failure)
    end
    taken_off = 0
  end
end
return {OK, taken_off, values[1], values[2], values[3], values[4], values[5]}
