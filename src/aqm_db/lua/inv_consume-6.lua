-- Removes one coin, whatever state its row is in.
-- KEYS: row, claim, used, idx GOLD, idx SILVER, idx BRONZE
-- ARGV: key_id, claim prefix, now (ms), claim ttl (ms)
-- Returns: {OK, removed}
-- Again: the claim holds what the request took.
-- Uses: typed, used
local row, claim_key = KEYS[1], KEYS[2]

if redis.call('EXISTS', claim_key) == 1 then
  return {OK, 1}
end
if redis.call('EXISTS', row) == 0 then
  return {OK, 0}
end
local stored = typed('HMGET', row, 'request_id', 'fetched_at') or {}
-- Rehearsals: what can't be written is found out while nothing is.
for queue = 4, 6 do
  redis.call('ZREM', KEYS[queue], '')
end
claim(row, ARGV[1], claim_key, ARGV[2], ARGV[4], KEYS[3], ARGV[3], stored[1], stored[2])
for queue = 4, 6 do
  redis.call('ZREM', KEYS[queue], ARGV[1])
end
return {OK, 1}
