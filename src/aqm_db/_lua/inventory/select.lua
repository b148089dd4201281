-- Hands out the oldest coin of the first tier that has one.
-- KEYS: claim, meta, used, used_until, watch, aside, queue, lower ...
-- ARGV: sent (ms), clock, row_prefix, claim_prefix, tier, place?
--       lower: the queues of the tiers below the one that is wanted, the best first, or fewer, if
--       a coin of no others will do; clock: ms as text, which some servers write faster than a
--       number; place: where in the wanted tier's queue to look first, after a reply that says
--       UNFINISHED.
-- Returns: {OK, claim, set aside} | {OK, claim, set aside, key_id, coin_category, public_key,
--          signature, fetched_at, expires_at, receipt} | {NOT_REGISTERED, claim} | {CORRUPT, claim}
--          | {UNFINISHED, claim, set aside, tier, place} | {UNKNOWN, claim, shown}
--          claim: its name, and so the contact and the request, by which the client knows its reply
--          set aside: {key_id, fault, key_id, fault, ...}
--          receipt: what takes it back: when it was used, a space, and its origin: its score in the
--          queue, a space, and the request that registered its contact
--          UNFINISHED: so many couldn't be handed out that the call goes on in another one
-- Again: the claim holds what the request took; nothing, where a sign before sent says that its
--          caller is gone, and it took nothing.
-- Runs: TIME, ZRANGE queue, ZREM queue, HGET meta, HMGET meta, HSET meta, HMGET row, EXISTS claim
-- Runs: HMGET claim, RENAMENX row claim, HSET claim, PEXPIRE claim, SET claim, ZADD used
-- Uses: claim_coin, confirm_time, drop_use, find_expiry, inspect_coin, is_late, parse_integer
-- Uses: put_back, read_coin, refuse_unregistered, set_aside, try_call
local find = string.find
local time = redis.call('TIME')
local shown = time[1] * 1000 + math.floor(time[2] / 1000)
-- To format the number would take as long as two commands.
local now = clock ~= '' and clock or time[1] .. string.sub('00000' .. time[2], -6, -4)
local id, row, by, is_moved, is_noted

-- What nearly all calls come to, once more, in straight code. Where anything is unusual it breaks
-- off before its first write, and all is done by what follows. So each test here may be stricter
-- than its counterpart there, but no laxer.
repeat
  if not sent or shown - sent >= LATE or sent - shown > CLOCK_SLACK or place then
    break
  end
  local head = redis.call('ZRANGE', queue, 0, 0, 'WITHSCORES')
  id = head[1]
  if not id or not find(id, '^[%w_-]+$') then
    break
  end
  row = row_prefix .. id
  local coin = redis.pcall('HMGET', row, 'coin_category', 'public_key', 'signature', 'fetched_at',
    'by', 'expires_at')
  local fetched_at, expires_at = coin[4], coin[6]
  by = coin[5]
  if coin[1] ~= tier or not coin[2] or not coin[3] or not fetched_at or #fetched_at ~= 13
    or not find(fetched_at, '^%d+$') then
    break
  end
  local present = clock == '' and shown or tonumber(clock)
  local age = present - fetched_at
  if age < 0 or age >= COIN_TTL and not expires_at then
    break
  end
  if expires_at then
    local left = #expires_at == 13 and find(expires_at, '^%d+$') and expires_at - present
    if not left or left <= 0 or left > USED_TTL then
      break
    end
  end
  local contact = redis.call('HMGET', meta, 'priority', 'by', 'last_msg_at')
  local last = contact[3]
  if not contact[1] or not last or #last ~= 13 or #now ~= 13 or last > now
    or redis.pcall('RENAMENX', row, claim) ~= 1 then
    break
  end
  is_moved = true
  is_noted = redis.pcall('ZADD', used, 'NX', now, id) == 1
  local receipt = now .. ' ' .. head[2] .. ' ' .. (contact[2] or '')
  if is_noted and redis.pcall('HSET', claim, 'key_id', id, 'receipt', receipt) == 2
    and (not by or age - CLAIM_TTL >= 0
      or redis.pcall('SET', claim_prefix .. by, '', 'PX', CLAIM_TTL).ok)
    and (last == now or redis.pcall('HSET', meta, 'last_msg_at', now) == 0)
    and redis.pcall('PEXPIRE', claim, CLAIM_TTL) == 1
    and redis.pcall('ZREM', queue, id) == 1 then
    return {OK, claim, {}, id, tier, coin[2], coin[3], fetched_at, expires_at, receipt}
  end
until true
-- Otherwise:
local LOOKS = 25

if is_moved then
  put_back(claim, row, COIN_TTL, claim_prefix .. (by or ''))
  if is_noted then
    drop_use(used, used_until, id)
  end
end

-- A tier, and those below it.
local function list_from(tier)
  local list = {}
  for _, each in ipairs(TIERS) do
    if each == tier or list[1] then
      list[#list + 1] = each
    end
  end
  return list
end

local function hand_out(claim, coin, id, receipt, aside)
  return {OK, claim, aside, id, coin.coin_category, coin.public_key, coin.signature,
    coin.fetched_at, coin.expires_at, receipt}
end

-- A caller who is gone repeats a request on another connection, where it may overtake the first
-- sending: where it takes nothing, that must take nothing either, since nobody would put it back.
local function take_nothing(reply)
  if IS_SETTLING then
    redis.call('SET', claim, '', 'PX', CLAIM_TTL)
  end
  return reply
end

-- A repeated request meets its claim in the place that a coin would be moved to.
local function hand_out_again(claim)
  local taken = try_call('HMGET', claim, 'key_id', 'receipt')
  if not taken then
    return {OK, claim, {}}
  end
  local coin = read_coin(claim)
  if not taken[1] or not find(taken[2] or '', '^%d+ %S+ ')
    or not ACTIVE[coin.coin_category] or not find_expiry(coin, COIN_TTL) then
    return {CORRUPT, claim}
  end
  return hand_out(claim, coin, taken[1], taken[2], {})
end

if is_late(sent, shown) then
  return redis.call('EXISTS', claim) == 1 and hand_out_again(claim)
    or {UNKNOWN, claim, shown}
end
local skipped, confirmed, looks = {}, nil, 0
local passed = tonumber(place or 0)
local tiers = list_from(tier)
for step = 1, 1 + #lower do
  local each, queue = tiers[step], lower[step - 1] or queue
  local head = redis.call('ZRANGE', queue, passed, passed, 'WITHSCORES')
  while head[1] do
    local id = head[1]
    local coin, row, fault = inspect_coin(row_prefix, id, each, tonumber(now), COIN_TTL)
    if coin then
      local contact = redis.call('HMGET', meta, 'priority', 'by', 'last_msg_at')
      if not contact[1] then
        return take_nothing(refuse_unregistered(meta, claim))
      end
      -- While the clock is behind, its last message stays the last one.
      local is_later = (parse_integer(contact[3]) or 0) < tonumber(now)
      local origin = head[2] .. ' ' .. (contact[2] or '')
      local receipt = claim_coin(coin, id, row, claim, claim_prefix, CLAIM_TTL, COIN_TTL, used,
        used_until, USED_TTL, now, {queue}, origin, is_later and meta)
      if not receipt then
        return hand_out_again(claim)
      end
      return hand_out(claim, coin, id, receipt, skipped)
    end
    -- Asked again, it takes nothing from a queue, and so has nothing to tell.
    if #skipped == 0 and redis.call('EXISTS', claim) == 1 then
      return hand_out_again(claim)
    end
    if looks == LOOKS then
      return take_nothing({UNFINISHED, claim, skipped, each, passed})
    end
    looks = looks + 1
    confirmed = confirmed or clock == '' and confirm_time(watch, shown) or tonumber(now)
    if fault == 'stale' and inspect_coin(row_prefix, id, each, confirmed, COIN_TTL) then
      -- The clock has jumped, and may come back.
      passed = passed + 1
    else
      set_aside(queue, id, row, fault, aside)
      skipped[#skipped + 1] = id
      skipped[#skipped + 1] = fault
    end
    head = redis.call('ZRANGE', queue, passed, passed, 'WITHSCORES')
  end
  passed = 0
end
if redis.call('EXISTS', claim) == 1 then
  return hand_out_again(claim)
end
if not redis.call('HGET', meta, 'priority') then
  return take_nothing(refuse_unregistered(meta, claim))
end
return take_nothing({OK, claim, skipped})
