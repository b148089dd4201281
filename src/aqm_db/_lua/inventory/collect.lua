-- Collects one contact's garbage: all coins of an inactive contact, the stale ones of another, and
-- what was used so long ago that nobody can use it again.
-- KEYS: meta, used, claim, idx GOLD, idx SILVER, idx BRONZE
-- ARGV: row prefix, now (ms), coin ttl (ms), inactive before (ms), used ttl (ms),
--       claim ttl (ms), 'delete' or 'count'
-- Returns: {OK, cleaned, deleted GOLD, deleted SILVER, deleted BRONZE} | {NOT_REGISTERED}
--          | {CORRUPT}
-- Again: the claim says what the request deleted. Without it a request that is sent again, or
--        arrives late, would delete what was stored meanwhile.
-- Runs: GET claim, SET claim, HMGET meta, HSET meta, ZRANGE idx, ZREM idx
-- Runs: ZREM used, ZREMRANGEBYSCORE used, DEL row
-- Uses: coin, unregistered
local meta, used, claim_key = KEYS[1], KEYS[2], KEYS[3]
local prefix, now, delete = ARGV[1], tonumber(ARGV[2]), ARGV[7] == 'delete'
local TIERS = {'GOLD', 'SILVER', 'BRONZE'}

local before = redis.call('GET', claim_key)
if before then
  local answer = {OK}
  for number in string.gmatch(before, '%d+') do
    answer[#answer + 1] = tonumber(number)
  end
  return answer
end
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
  local queue = KEYS[number + 3]
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
local answer = {OK, cleaned and 1 or 0, deleted[1], deleted[2], deleted[3]}
if not delete then
  return answer
end
-- Right whatever follows: what was used so long ago can't be used again.
redis.call('ZREMRANGEBYSCORE', used, '-inf', string.format('%.0f', now - ARGV[5]))
-- Rehearsals: what can't be written is found out while nothing is.
if #entries > 0 then
  redis.call('ZREM', used, '')
  redis.call('DEL', prefix)
end
if inactive or #entries > 0 then
  redis.call('SET', claim_key, '', 'PX', 1, 'XX')
end
if cleaned then
  redis.call('HSET', meta, 'priority', 'STRANGER')
end
if inactive or #entries > 0 then
  redis.call('SET', claim_key, table.concat(answer, ' ', 2), 'PX', ARGV[6])
end
for _, entry in ipairs(entries) do
  redis.call('DEL', entry[3])
  redis.call('ZREM', entry[1], entry[2])
  -- A collected coin was not used, though it may have been released after a use.
  redis.call('ZREM', used, entry[2])
end
return answer
