-- Runs: HMGET watch, HSET watch
-- Uses: parse_integer
-- What may be erased was over by this time (ms): what the clock shows, unless it has jumped ahead.
-- Nobody knows whether a clock that jumps was stepped, or nobody was here meanwhile; so the time
-- goes on from where it was, until the clock has stayed for CONFIRM_TIME where it jumped to.
-- Looking changes nothing; whoever erases takes note of what the clock shows.
local function confirm_time(watch, shown, only_looks)
  local fields = redis.call('HMGET', watch, 'seen', 'before', 'jumped')
  local noted = parse_integer(fields[1])
  local seen = noted or shown
  local before, jumped = parse_integer(fields[2]), parse_integer(fields[3])
  local was_doubted = before and jumped
  local doubted = was_doubted and shown >= jumped and shown - jumped < CONFIRM_TIME
  if shown - seen > LONGEST_PAUSE then
    before = doubted and before + seen - jumped or seen
    jumped, doubted = shown, true
  elseif only_looks or doubted == was_doubted and math.abs(shown - seen) < LONGEST_PAUSE / 10 and noted then
    only_looks = true
  end
  if not only_looks then
    redis.call('HSET', watch, 'seen', shown, 'before', doubted and before or '', 'jumped',
      doubted and jumped or '')
  end
  return doubted and before + shown - jumped or shown
end
