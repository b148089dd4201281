-- Runs: HMGET watch, HSET watch
-- Uses: parse_integer
-- What may be erased was over by this time (ms): what the clock shows, unless it has jumped ahead.
-- Nobody knows whether a clock that jumps was stepped, or nobody was here meanwhile; so the time
-- goes on from where it was, until the clock has stayed for CONFIRM_TIME where it jumped to, or is
-- back. Of a pause, which may be another jump, half of that counts at most.
-- Looking changes nothing; whoever erases takes note of what the clock shows.
local function confirm_time(watch, shown, only_looks)
  local fields = redis.call('HMGET', watch, 'seen', 'before', 'stayed')
  local seen = parse_integer(fields[1])
  local before, stayed = parse_integer(fields[2]), parse_integer(fields[3])
  local was_doubted = before and stayed and true or false
  local passed = shown - (seen or shown)
  local is_paused = passed > LONGEST_PAUSE
  local is_doubted = is_paused
  if was_doubted then
    local counted = math.max(math.min(passed, CONFIRM_TIME / 2), 0)
    before, stayed = before + counted, stayed + counted
    is_doubted = shown > before + LONGEST_PAUSE and (is_paused or stayed < CONFIRM_TIME)
  end
  if is_paused and not (was_doubted and stayed < CONFIRM_TIME) then
    before, stayed = seen, 0
  end
  local is_new = not seen or math.abs(passed) > LONGEST_PAUSE / 10
  if not only_looks and (is_new or is_doubted ~= was_doubted) then
    redis.call('HSET', watch, 'seen', shown, 'before', is_doubted and before or '', 'stayed',
      is_doubted and stayed or '')
  end
  return is_doubted and before or shown
end
