-- Forgets a contact: itself, its queues and its coins, in whatever state they are. What was used is
-- remembered until nobody can use it again, so that it can't come back with the contact.
-- KEYS: meta, used, claim, idx GOLD, idx SILVER, idx BRONZE
-- ARGV: row prefix, used ttl (ms), claim ttl (ms)
-- Returns: {OK, dropped} | {NOT_REGISTERED}
-- Again: the claim says how many coins the request dropped.
-- Runs: GET claim, SET claim, PEXPIRE claim, EXISTS meta, DEL meta, ZRANGE idx, DEL idx, DEL row
-- Runs: ZREM used, PEXPIRE used
-- Uses: encode, typed
local meta, used, claim_key, prefix = KEYS[1], KEYS[2], KEYS[3], ARGV[1]

local answer = redis.call('GET', claim_key)
if answer then
  return {OK, tonumber(answer)}
end
if redis.call('EXISTS', meta) == 0 then
  return {NOT_REGISTERED}
end
local ids = {}
for queue = 4, 6 do
  for _, id in ipairs(typed('ZRANGE', KEYS[queue], 0, -1) or {}) do
    ids[#ids + 1] = id
  end
end
-- Rehearsals: what can't be written is found out while nothing is; DEL is the first write itself.
-- ZREM comes before SET: after it, a server that is full refuses nothing: forgetting makes room.
redis.call('ZREM', used, '')
redis.call('SET', claim_key, '', 'PX', 1, 'XX')
redis.call('PEXPIRE', claim_key, 1)

local dropped = 0
for _, id in ipairs(ids) do
  dropped = dropped + redis.call('DEL', prefix .. encode(id))
  -- A dropped coin was not used, though it may have been released after a use.
  redis.call('ZREM', used, id)
end
redis.call('DEL', meta, KEYS[4], KEYS[5], KEYS[6])
redis.call('PEXPIRE', used, ARGV[2])
redis.call('SET', claim_key, dropped, 'PX', ARGV[3])
return {OK, dropped}
