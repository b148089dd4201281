-- Removes one coin, whatever state its row is in.
-- KEYS: row, claim, used, idx GOLD, idx SILVER, idx BRONZE
-- ARGV: key_id, claim prefix, now (ms), claim ttl (ms), coin ttl (ms)
-- Returns: {OK, removed}
-- Again: the claim holds what the request took.
-- Runs: EXISTS row, HMGET row, EXISTS claim, ZREM idx
-- Uses: typed, used
local row, claim_key = KEYS[1], KEYS[2]

if redis.call('EXISTS', row) == 0 then
  return {OK, redis.call('EXISTS', claim_key)}
end
-- Rehearsals: what can't be written is found out while nothing is.
for queue = 4, 6 do
  redis.call('ZREM', KEYS[queue], '')
end
local stored = typed('HMGET', row, 'by', 'fetched_at') or {}
claim(row, ARGV[1], claim_key, ARGV[2], ARGV[4], ARGV[5], KEYS[3], ARGV[3], stored[1], stored[2],
  {KEYS[4], KEYS[5], KEYS[6]})
return {OK, 1}
