-- Runs: PEXPIRE used, PEXPIRE used_until, ZREVRANGE used_until, ZADD forgotten, ZREM forgotten
-- Runs: ZRANGEBYSCORE forgotten
-- How many contacts lose their place in the index at once, when their memory has ended.
local ENDED_AT_ONCE = 10

-- Gives the memory of used coins an end, since nobody looks after what is left of a contact that is
-- not registered: when the last of them can't be used any more. Until then the index lists the
-- contact.
local function limit_memory(used, used_until, forgotten, contact_id, now, used_ttl, shown)
  local lasts = redis.call('PEXPIRE', used, used_ttl) == 1 and used_ttl
  local last = redis.call('ZREVRANGE', used_until, 0, 0, 'WITHSCORES')[2]
  if last then
    local outlives = tonumber(last) - now
    redis.call('PEXPIRE', used_until, string.format('%.0f', outlives))
    lasts = math.max(lasts or 0, outlives)
  end
  for _, ended in ipairs(redis.call('ZRANGEBYSCORE', forgotten, '-inf', shown, 'LIMIT', 0,
    ENDED_AT_ONCE)) do
    redis.call('ZREM', forgotten, ended)
  end
  if lasts and lasts > 0 then
    redis.call('ZADD', forgotten, string.format('%.0f', shown + lasts), contact_id)
  end
end
