-- Runs: RENAMENX row claim, HSET claim, PEXPIRE claim, SET claim, ZADD used
-- Runs: ZSCORE used, ZADD used_until, ZREM queues, HSET meta
-- Uses: drop_use, parse_integer, put_back, try_call
-- Writes all that follows from a use, and returns its receipt.
local function note_use(coin, id, claim, claim_prefix, claim_ttl, used, used_until, used_ttl, now,
  queues, origin, meta)
  local fetched_at, used_at = tonumber(coin.fetched_at) or 0, now
  if fetched_at - now > 0 and parse_integer(coin.fetched_at) then
    -- The clock is behind: a use would be forgotten once it's right again.
    used_at = coin.fetched_at
  end
  -- Raised above an earlier use of the same coin: each use has a receipt of its own.
  if redis.call('ZADD', used, 'GT', 'CH', used_at, id) == 0 then
    local raised = string.format('%.0f', redis.call('ZSCORE', used, id) + 1)
    used_at = parse_integer(raised) and raised or used_at
    redis.call('ZADD', used, used_at, id)
  end
  -- A coin that lasts longer than its use is remembered can't come back in its lifetime either.
  local ends = parse_integer(coin.expires_at)
  if ends and ends > now + used_ttl then
    redis.call('ZADD', used_until, 'GT', coin.expires_at, id)
  end
  local receipt = used_at .. ' ' .. origin
  try_call('HSET', claim, 'key_id', id, 'receipt', receipt)
  -- A store whose reply was lost is asked again: it must hear that it stored, though the coin is
  -- gone by then.
  if coin.by and now - fetched_at < tonumber(claim_ttl) then
    redis.call('SET', claim_prefix .. coin.by, '', 'PX', claim_ttl)
  end
  if meta then
    redis.call('HSET', meta, 'last_msg_at', now)
  end
  redis.call('PEXPIRE', claim, claim_ttl)
  for _, queue in pairs(queues) do
    redis.call('ZREM', queue, id)
  end
  return receipt
end

-- Moves a coin's row to the claim of the request that takes it, marks the coin as used, and takes
-- it from its queues. Whatever can't be written (an ACL forbids it, a key has the wrong type) puts
-- the row back as it was: no coin is lost on the way.
-- Returns the use's receipt: when it was used, a space, and the origin, which says where the coin
-- was taken from; nil if the request has its claim already.
local function claim_coin(coin, id, row, claim, claim_prefix, claim_ttl, coin_ttl, used, used_until,
  used_ttl, now, queues, origin, meta)
  if redis.call('RENAMENX', row, claim) == 0 then
    return nil
  end
  local noted, receipt = pcall(note_use, coin, id, claim, claim_prefix, claim_ttl, used,
    used_until, used_ttl, now, queues, origin, meta)
  if not noted then
    put_back(claim, row, coin_ttl, claim_prefix .. (coin.by or ''))
    pcall(drop_use, used, used_until, id)
    error(receipt)
  end
  return receipt
end
