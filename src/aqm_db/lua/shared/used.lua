-- Uses: integer, typed
-- Marks a coin as used and moves its row to the claim of the request that took it; the caller
-- takes it from its queue then, and has rehearsed that. RENAME is the last write here that an ACL
-- can stop, and stopped there it leaves the coin where it is.
local function claim(row, id, claim_key, claim_prefix, claim_ttl, used, now, request_id, fetched_at)
  redis.call('PEXPIRE', claim_key, claim_ttl)
  -- Each use has a receipt of its own: its time, raised above an earlier use of the same coin.
  local used_at = now
  if redis.call('ZADD', used, 'GT', 'CH', now, id) == 0 then
    used_at = string.format('%.0f', redis.call('ZSCORE', used, id) + 1)
    redis.call('ZADD', used, used_at, id)
  end
  -- A store whose reply was lost is asked again: it must hear that it stored, though the coin is
  -- gone by then.
  if request_id and tonumber(now) - (integer(fetched_at) or 0) < tonumber(claim_ttl) then
    redis.call('SET', claim_prefix .. request_id, '', 'PX', claim_ttl)
  end
  typed('HSET', row, 'key_id', id, 'used_at', used_at)
  redis.call('RENAME', row, claim_key)
  redis.call('PEXPIRE', claim_key, claim_ttl)
  return used_at
end
