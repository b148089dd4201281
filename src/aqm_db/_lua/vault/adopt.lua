-- Lists an active private half that something else has written in the index, unless it's listed.
-- KEYS: row, expiry
-- ARGV: key_id, ttl (ms)
-- Returns: {OK, listed}
-- Again: it is listed by then.
-- Runs: HMGET row, PTTL row, ZADD expiry
-- Uses: expiry_score.format_score, find_active_tier, parse_integer, read_time, try_call
local fields = try_call('HMGET', row, 'status', 'coin_category', 'created_at')
local tier = find_active_tier(fields)
if not tier then
  return {OK, 0}
end
local shown, left = read_time(), redis.call('PTTL', row)
if left < 0 then
  -- Nothing ends it but a purge.
  left = (parse_integer(fields[3]) or 0) + ttl - shown
end
return {OK, redis.call('ZADD', expiry, 'NX', format_score(shown + left, tier), key_id)}
