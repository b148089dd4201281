-- Runs: ZRANGEBYSCORE spent, ZREM spent
-- Forgets some of those private halves that nobody could bring back any more, the oldest first.
local function forget_spent(spent, now, spent_ttl, most)
  local old = redis.call('ZRANGEBYSCORE', spent, '-inf', string.format('%.0f', now - spent_ttl),
    'LIMIT', 0, most)
  if #old > 0 then
    redis.call('ZREM', spent, unpack(old))
  end
end
