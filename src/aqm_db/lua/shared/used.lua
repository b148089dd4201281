-- Uses: integer, typed
-- Marks a coin as used and moves its row to the claim of the request that took it. Of these
-- writes, RENAME is the last that an ACL can stop: whatever comes after it was rehearsed before.
local function claim(row, id, claim_key, claim_prefix, claim_ttl, used, used_ttl, now, queues)
  -- Raised above an earlier use of the same coin, so that each use has a receipt of its own.
  local earlier = redis.call('ZSCORE', used, id)
  local used_at = string.format('%.0f', math.max(tonumber(now), (tonumber(earlier) or 0) + 1))
  for _, queue in ipairs(queues) do
    redis.call('ZREM', queue, '')
  end
  redis.call('ZADD', used, used_at, id)
  redis.call('PEXPIRE', used, used_ttl)
  -- A store whose reply was lost is asked again: it must hear that it stored, though the coin is
  -- gone by then.
  local stored = typed('HMGET', row, 'request_id', 'fetched_at')
  if stored and stored[1] and tonumber(now) - (integer(stored[2]) or 0) < tonumber(claim_ttl) then
    redis.call('SET', claim_prefix .. stored[1], '', 'PX', claim_ttl)
  end
  typed('HSET', row, 'key_id', id, 'used_at', used_at)
  local moved = redis.pcall('RENAME', row, claim_key)
  if moved.err then
    redis.call('ZREM', used, id)
    return nil, moved
  end
  for _, queue in ipairs(queues) do
    redis.call('ZREM', queue, id)
  end
  redis.call('PEXPIRE', claim_key, claim_ttl)
  return used_at
end
