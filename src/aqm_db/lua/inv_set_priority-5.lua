-- Changes a contact's priority, and drops the newest coins above the new caps.
-- KEYS: meta, used, idx GOLD, idx SILVER, idx BRONZE
-- ARGV: priority, row prefix, cap GOLD, cap SILVER, cap BRONZE
-- Returns: {OK, dropped} | {NOT_REGISTERED} | {CORRUPT}
-- Again: the second run finds nothing above the caps.
-- Runs: HGET meta, HSET meta, ZRANGE idx, ZREM idx, ZREM used, DEL row
-- Uses: encode, unregistered
local meta, used = KEYS[1], KEYS[2]

if not redis.call('HGET', meta, 'priority') then
  return unregistered(meta)
end
local excess = {}
for queue = 3, 5 do
  local cap = tonumber(ARGV[queue])
  for _, id in ipairs(redis.call('ZRANGE', KEYS[queue], cap, -1)) do
    excess[#excess + 1] = {KEYS[queue], id}
  end
end
-- Rehearsals: what can't be written is found out while nothing is.
if #excess > 0 then
  redis.call('DEL', ARGV[2])
  redis.call('ZREM', used, '')
end
redis.call('HSET', meta, 'priority', ARGV[1])
for _, coin in ipairs(excess) do
  redis.call('DEL', ARGV[2] .. encode(coin[2]))
  redis.call('ZREM', coin[1], coin[2])
  -- A dropped coin was not used, though it may have been released after a use.
  redis.call('ZREM', used, coin[2])
end
return {OK, #excess}
