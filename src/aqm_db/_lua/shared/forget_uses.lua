-- Runs: ZREMRANGEBYSCORE used, ZREMRANGEBYSCORE used_until
-- Forgets what was used so long ago that nobody can use it again: 30 days ago, or, if the coin itself
-- lasts longer, once its end is past.
local function forget_uses(used, used_until, now, used_ttl)
  redis.call('ZREMRANGEBYSCORE', used, '-inf', string.format('%.0f', now - used_ttl))
  redis.call('ZREMRANGEBYSCORE', used_until, '-inf', string.format('%.0f', now))
end
