-- Collects one contact's garbage: all coins of an inactive contact, the stale ones of another, and
-- what was used so long ago that nobody can use it again.
-- KEYS: meta, used, idx GOLD, idx SILVER, idx BRONZE
-- ARGV: row prefix, now (ms), coin ttl (ms), inactive before (ms), used ttl (ms),
--       'delete' or 'count'
-- Returns: {OK, cleaned, deleted GOLD, deleted SILVER, deleted BRONZE} | {NOT_REGISTERED}
--          | {CORRUPT}
-- Again: the coins are gone, so the second run finds none.
-- Runs: HMGET meta, HSET meta, ZRANGE idx, ZREM idx, ZREM used, ZREMRANGEBYSCORE used, DEL row
-- Uses: coin, unregistered
local meta, used = KEYS[1], KEYS[2]
local prefix, now, delete = ARGV[1], tonumber(ARGV[2]), ARGV[6] == 'delete'
local TIERS = {'GOLD', 'SILVER', 'BRONZE'}

local contact = redis.call('HMGET', meta, 'priority', 'last_msg_at')
if not contact[1] then
  return unregistered(meta)
end
local last_msg_at = integer(contact[2])
if not last_msg_at then
  return {CORRUPT}
end
local inactive = last_msg_at < tonumber(ARGV[4])
local entries, deleted = {}, {0, 0, 0}
for number, tier in ipairs(TIERS) do
  local queue = KEYS[number + 2]
  for _, id in ipairs(redis.call('ZRANGE', queue, 0, -1)) do
    local _, row, fault = coin(prefix, id, tier, now, ARGV[3])
    if inactive or fault == 'stale' then
      entries[#entries + 1] = {queue, id, row}
      if fault ~= 'dangling' then
        deleted[number] = deleted[number] + 1
      end
    end
  end
end
local cleaned = inactive and (#entries > 0 or contact[1] ~= 'STRANGER')
if delete then
  -- Right whatever follows: what was used so long ago can't be used again.
  redis.call('ZREMRANGEBYSCORE', used, '-inf', string.format('%.0f', now - ARGV[5]))
  if #entries > 0 then
    -- Rehearsals: what can't be written is found out while nothing is.
    redis.call('ZREM', used, '')
    redis.call('DEL', prefix)
  end
  if cleaned then
    redis.call('HSET', meta, 'priority', 'STRANGER')
  end
  for _, entry in ipairs(entries) do
    redis.call('DEL', entry[3])
    redis.call('ZREM', entry[1], entry[2])
    -- A collected coin was not used, though it may have been released after a use.
    redis.call('ZREM', used, entry[2])
  end
end
return {OK, cleaned and 1 or 0, deleted[1], deleted[2], deleted[3]}
