-- Runs: RENAMENX row claim, RENAMENX claim row, HSET claim, PEXPIRE claim, SET claim, ZADD used
-- Runs: ZSCORE used, ZREM used, ZREM idx, HDEL claim, DEL claim
-- Uses: integer, typed
-- Moves a coin's row to the claim of the request that takes it, marks the coin as used, and takes
-- it from its queues. Whatever can't be written (an ACL forbids it, a key has the wrong type) puts
-- the row back as it was: no coin is lost on the way.
-- Returns when it was used, which is the use's receipt; nil if the request has its claim already.
local function claim(row, id, claim_key, claim_prefix, claim_ttl, coin_ttl, used, now, request_id,
  fetched_at, queues, meta)
  if redis.call('RENAMENX', row, claim_key) == 0 then
    return nil
  end
  local used_at = now
  local written, failure = pcall(function()
    -- Raised above an earlier use of the same coin: each use has a receipt of its own.
    if redis.call('ZADD', used, 'GT', 'CH', now, id) == 0 then
      local raised = string.format('%.0f', redis.call('ZSCORE', used, id) + 1)
      used_at = integer(raised) and raised or now
      redis.call('ZADD', used, used_at, id)
    end
    typed('HSET', claim_key, 'key_id', id, 'used_at', used_at)
    -- A store whose reply was lost is asked again: it must hear that it stored, though the coin is
    -- gone by then.
    if request_id and tonumber(now) - (integer(fetched_at) or 0) < tonumber(claim_ttl) then
      redis.call('SET', claim_prefix .. request_id, '', 'PX', claim_ttl)
    end
    if meta then
      redis.call('HSET', meta, 'last_msg_at', now)
    end
    redis.call('PEXPIRE', claim_key, claim_ttl)
    for _, queue in ipairs(queues) do
      redis.call('ZREM', queue, id)
    end
  end)
  if not written then
    -- Stale by the time that this expiry comes, if the one above was set.
    redis.pcall('PEXPIRE', claim_key, coin_ttl)
    redis.pcall('HDEL', claim_key, 'key_id', 'used_at')
    redis.call('RENAMENX', claim_key, row)
    redis.pcall('ZREM', used, id)
    redis.pcall('DEL', claim_prefix .. (request_id or ''))
    error(failure)
  end
  return used_at
end
