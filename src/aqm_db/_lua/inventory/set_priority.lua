-- Changes a contact's priority. A lower one drops the newest coins above its caps; a higher one, or
-- the same, drops nothing, and so does any that takes the place of a malformed one.
-- KEYS: meta, used, claim, idx GOLD, idx SILVER, idx BRONZE
-- ARGV: priority, row prefix, claim ttl (ms), cap GOLD, cap SILVER, cap BRONZE,
--       the priorities above it ...
-- Returns: {OK, dropped} | {NOT_REGISTERED} | {CORRUPT}
-- Again: the claim says how many the request dropped. Without it a request that is sent again, or
--        arrives late, would undo what others decided meanwhile, and drop what they stored.
-- Runs: GET claim, SET claim, HGET meta, HSET meta, ZRANGE idx, ZREM idx, ZREM used, DEL row
-- Uses: encode, unregistered
local meta, used, claim_key = KEYS[1], KEYS[2], KEYS[3]

local before = redis.call('GET', claim_key)
if before then
  return {OK, tonumber(before)}
end
local priority = redis.call('HGET', meta, 'priority')
if not priority then
  return unregistered(meta)
end
local lowered = false
for position = 7, #ARGV do
  lowered = lowered or ARGV[position] == priority
end
local excess = {}
if lowered then
  for queue = 4, 6 do
    local cap = tonumber(ARGV[queue])
    for _, id in ipairs(redis.call('ZRANGE', KEYS[queue], cap, -1)) do
      excess[#excess + 1] = {KEYS[queue], id}
    end
  end
end
-- Rehearsals: what can't be written is found out while nothing is.
if #excess > 0 then
  redis.call('DEL', ARGV[2])
  redis.call('ZREM', used, '')
end
redis.call('SET', claim_key, '', 'PX', 1, 'XX')
redis.call('HSET', meta, 'priority', ARGV[1])
redis.call('SET', claim_key, #excess, 'PX', ARGV[3])
for _, coin in ipairs(excess) do
  redis.call('DEL', ARGV[2] .. encode(coin[2]))
  redis.call('ZREM', coin[1], coin[2])
  -- A dropped coin was not used, though it may have been released after a use.
  redis.call('ZREM', used, coin[2])
end
return {OK, #excess}
