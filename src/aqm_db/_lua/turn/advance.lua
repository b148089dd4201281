-- Notes how far a program is with a round over all owners.
-- KEYS: round
-- ARGV: clock (ms), began, holder, counts, mode ('on' or 'end')
-- Returns: {OK, noted}: 0 if another round has begun since.
-- Again: the same is noted; what came later stays.
-- Runs: HGET round, HSET round, HDEL round
-- Uses: count_owners, format_count, read_time
if redis.call('HGET', round, 'began') ~= began then
  return {OK, 0}
end
local now, name = format_count(clock or read_time()), 'by:' .. holder
if count_owners(counts) < count_owners(redis.call('HGET', round, name)) then
  return {OK, 1}
end
-- A full server takes what follows, too, after what takes no room: a round makes some.
redis.call('HDEL', round, '')
redis.call('HSET', round, 'seen', now, name, counts)
if mode == 'end' then
  redis.call('HSET', round, 'ended', now)
end
return {OK, 1}
