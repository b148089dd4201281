-- Collects one contact's garbage: all coins of an inactive contact, the stale ones of another, and
-- what was used so long ago that nobody can use it again.
-- KEYS: meta, used, used_until, claim, queues[tier], watch
-- ARGV: sent (ms), clock (ms), row_prefix, coin_ttl (ms), inactive (ms), used_ttl (ms)
-- ARGV: claim_ttl (ms), mode ('delete' or 'count')
--       inactive: a contact whose last message was longer ago is so.
-- Returns: {OK, cleaned, inactive, the deleted coins of each tier} | {NOT_REGISTERED} | {CORRUPT}
--          | {UNKNOWN, shown}
-- Again: the claim says what the request deleted. Without it a request that is sent again, or
--        arrives late, would delete what was stored meanwhile.
-- Runs: GET claim, SET claim, HMGET meta, HSET meta, ZRANGE queues, ZREM queues
-- Runs: DEL row, ZSCORE used
-- Uses: confirm_time, drop_use, forget_uses, inspect_coin, is_late, parse_integer, read_time
-- Uses: refuse_unregistered
local LOWEST = PRIORITIES[#PRIORITIES]

local answer = redis.call('GET', claim)
if answer then
  local reply = {OK}
  for number in string.gmatch(answer, '%d+') do
    reply[#reply + 1] = tonumber(number)
  end
  return reply
end
local shown = read_time()
if is_late(sent, shown) then
  return {UNKNOWN, shown}
end
local now = clock or confirm_time(watch, shown, mode == 'count')
local contact = redis.call('HMGET', meta, 'priority', 'last_msg_at')
if not contact[1] then
  return refuse_unregistered(meta)
end
local last_msg_at = parse_integer(contact[2])
if not last_msg_at then
  return {CORRUPT}
end
local is_inactive = last_msg_at < now - inactive
local entries, reply = {}, {OK, 0, is_inactive and 1 or 0}
for _, tier in ipairs(TIERS) do
  local deleted = 0
  for _, id in ipairs(redis.call('ZRANGE', queues[tier], 0, -1)) do
    local _, row, fault = inspect_coin(row_prefix, id, tier, now, coin_ttl)
    if is_inactive or fault == 'stale' then
      entries[#entries + 1] = {queues[tier], id, row}
      if fault ~= 'dangling' then
        deleted = deleted + 1
      end
    end
  end
  reply[#reply + 1] = deleted
end
local cleaned = is_inactive and (#entries > 0 or contact[1] ~= LOWEST)
reply[2] = cleaned and 1 or 0
if mode == 'count' then
  return reply
end
-- What drop_orphan runs, which follows.
redis.call('ZSCORE', used, '')
redis.call('DEL', row_prefix)
-- Right whatever follows: what was used so long ago can't be used again.
forget_uses(used, used_until, now, used_ttl)
-- Rehearsals: what can't be written is found out while nothing is.
if #entries > 0 then
  drop_use(used, used_until, '')
end
if is_inactive or #entries > 0 then
  redis.call('SET', claim, '', 'PX', 1, 'XX')
end
if cleaned then
  redis.call('HSET', meta, 'priority', LOWEST)
end
if is_inactive or #entries > 0 then
  redis.call('SET', claim, table.concat(reply, ' ', 2), 'PX', claim_ttl)
end
for _, entry in ipairs(entries) do
  redis.call('DEL', entry[3])
  redis.call('ZREM', entry[1], entry[2])
  -- A collected coin was not used, though it may have been released after a use.
  drop_use(used, used_until, entry[2])
end
return reply
