-- Hands out the oldest coin of the first tier that has one.
-- KEYS: claim, meta, used, used_until, queues[tier], watch, aside
-- ARGV: sent (ms), clock, row_prefix, claim_prefix, coin_ttl (ms), used_ttl (ms), claim_ttl
-- ARGV: tiers ...
--       clock, claim_ttl: ms as text, which some servers write faster than numbers; tiers: the one
--       that is wanted, and those to fall back to.
-- Returns: {OK, claim, set aside} | {OK, claim, set aside, key_id, coin_category, public_key,
--          signature, fetched_at, expires_at, receipt} | {NOT_REGISTERED, claim} | {CORRUPT, claim}
--          | {UNKNOWN, claim, shown}
--          claim: its name, and so the contact and the request, by which the client knows its reply
--          set aside: {key_id, fault, key_id, fault, ...}
--          receipt: what takes it back: when it was used, a space, and its origin: its score in the
--          queue, a space, and the request that registered its contact
-- Again: the claim holds what the request took.
-- Runs: ZRANGE queues, HGET meta, HMGET meta, HSET meta, EXISTS claim, HMGET claim
-- Uses: claim_coin, confirm_time, find_expiry, inspect_coin, is_late, parse_integer
-- Uses: read_coin, read_time, refuse_unregistered, set_aside
local function hand_out(claim, coin, id, receipt, aside)
  return {OK, claim, aside, id, coin.coin_category, coin.public_key, coin.signature,
    coin.fetched_at, coin.expires_at, receipt}
end

-- A repeated request meets its claim in the place that a coin would be moved to.
local function hand_out_again(claim, queues, coin_ttl)
  local taken = redis.call('HMGET', claim, 'key_id', 'receipt')
  local coin = read_coin(claim)
  if not taken[1] or not string.find(taken[2] or '', '^%d+ %S+ ')
    or not queues[coin.coin_category] or not find_expiry(coin, coin_ttl) then
    return {CORRUPT, claim}
  end
  return hand_out(claim, coin, taken[1], taken[2], {})
end

local shown = read_time()
if is_late(sent, shown) then
  return redis.call('EXISTS', claim) == 1 and hand_out_again(claim, queues, coin_ttl)
    or {UNKNOWN, claim, shown}
end
local now = clock ~= '' and clock or string.format('%.0f', shown)
local skipped, confirmed = {}, nil
for _, tier in ipairs(tiers) do
  local queue = queues[tier]
  local place = 0
  local head = redis.call('ZRANGE', queue, 0, 0, 'WITHSCORES')
  while head[1] do
    local id = head[1]
    local coin, row, fault = inspect_coin(row_prefix, id, tier, tonumber(now), coin_ttl)
    if coin then
      local contact = redis.call('HMGET', meta, 'priority', 'by', 'last_msg_at')
      if not contact[1] then
        return refuse_unregistered(meta, claim)
      end
      -- While the clock is behind, its last message stays the last one.
      local is_later = (parse_integer(contact[3]) or 0) < tonumber(now)
      local origin = head[2] .. ' ' .. (contact[2] or '')
      local receipt = claim_coin(coin, id, row, claim, claim_prefix, claim_ttl, coin_ttl, used,
        used_until, used_ttl, now, {queue}, origin, is_later and meta)
      if not receipt then
        return hand_out_again(claim, queues, coin_ttl)
      end
      return hand_out(claim, coin, id, receipt, skipped)
    end
    -- Asked again, it takes nothing from a queue, and so has nothing to tell.
    if #skipped == 0 and redis.call('EXISTS', claim) == 1 then
      return hand_out_again(claim, queues, coin_ttl)
    end
    confirmed = confirmed or clock == '' and confirm_time(watch, shown) or tonumber(now)
    if fault == 'stale' and inspect_coin(row_prefix, id, tier, confirmed, coin_ttl) then
      -- The clock has jumped, and may come back.
      place = place + 1
    else
      set_aside(queue, id, row, fault, aside)
      skipped[#skipped + 1] = id
      skipped[#skipped + 1] = fault
    end
    head = redis.call('ZRANGE', queue, place, place, 'WITHSCORES')
  end
end
if redis.call('EXISTS', claim) == 1 then
  return hand_out_again(claim, queues, coin_ttl)
end
if not redis.call('HGET', meta, 'priority') then
  return refuse_unregistered(meta, claim)
end
return {OK, claim, skipped}
