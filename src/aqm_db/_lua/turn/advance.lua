-- Notes how far a program is with a round over all owners.
-- KEYS: round
-- ARGV: clock (ms), began, holder, counts, mode ('on' or 'end')
-- Returns: {OK, noted}: 0 if another round has begun since.
-- Again: the same is noted.
-- Runs: HGET round, HSET round
-- Uses: format_count, read_time
if redis.call('HGET', round, 'began') ~= began then
  return {OK, 0}
end
local now = format_count(clock or read_time())
redis.call('HSET', round, 'seen', now, 'by:' .. holder, counts)
if mode == 'end' then
  redis.call('HSET', round, 'ended', now)
end
return {OK, 1}
