-- Hands out the oldest coin of the first tier that has one.
-- KEYS: claim, meta, used, idx GOLD, idx SILVER, idx BRONZE
-- ARGV: row prefix, claim prefix, now (ms), coin ttl (ms), claim ttl (ms), tier wanted,
--       tiers to fall back to ...
-- Returns: {OK, claim, set aside} | {OK, claim, set aside, key_id, coin_category, public_key,
--          signature, fetched_at, expires_at, used_at} | {NOT_REGISTERED, claim} | {CORRUPT, claim}
--          claim: its name, and so the contact and the request, by which the client knows its reply
--          set aside: {key_id, fault, key_id, fault, ...}
-- Again: the claim holds what the request took.
-- Runs: ZRANGE idx, HGET meta, HSET meta, EXISTS claim, HMGET claim
-- Uses: coin, integer, unregistered, used
local claim_key, meta, used = KEYS[1], KEYS[2], KEYS[3]
local queues = {GOLD = KEYS[4], SILVER = KEYS[5], BRONZE = KEYS[6]}
local prefix, now = ARGV[1], ARGV[3]

-- A repeated request meets its claim in the place that a coin would be moved to.
local function claimed()
  local taken = redis.call('HMGET', claim_key, 'key_id', 'coin_category', 'public_key', 'signature',
    'fetched_at', 'expires_at', 'used_at')
  if not taken[1] or not queues[taken[2]] or not taken[3] or not taken[4] or not integer(taken[5])
    or (taken[6] and not integer(taken[6])) or not integer(taken[7]) then
    return {CORRUPT, claim_key}
  end
  return {OK, claim_key, {}, unpack(taken, 1, 7)}
end

local aside = {}
for position = 6, #ARGV do
  local tier = ARGV[position]
  local queue = queues[tier]
  local id = redis.call('ZRANGE', queue, 0, 0)[1]
  while id do
    local fields, row, fault = coin(prefix, id, tier, tonumber(now), ARGV[4])
    if fields then
      if not redis.call('HGET', meta, 'priority') then
        return unregistered(meta, claim_key)
      end
      local used_at = claim(row, id, claim_key, ARGV[2], ARGV[5], ARGV[4], used, now, fields[6],
        fields[4], {queue}, meta)
      if not used_at then
        return claimed()
      end
      return {OK, claim_key, aside, id, tier, fields[2], fields[3], fields[4], fields[5], used_at}
    end
    -- Asked again, it takes nothing from a queue, and so has nothing to tell.
    if #aside == 0 and redis.call('EXISTS', claim_key) == 1 then
      return claimed()
    end
    set_aside(queue, id, row, fault)
    aside[#aside + 1] = id
    aside[#aside + 1] = fault
    id = redis.call('ZRANGE', queue, 0, 0)[1]
  end
end
if redis.call('EXISTS', claim_key) == 1 then
  return claimed()
end
if not redis.call('HGET', meta, 'priority') then
  return unregistered(meta, claim_key)
end
return {OK, claim_key, aside}
