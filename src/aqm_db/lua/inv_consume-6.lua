-- Removes one coin, whatever state its row is in.
-- KEYS: row, claim, used, idx GOLD, idx SILVER, idx BRONZE
-- ARGV: key_id, claim prefix, now (ms), used ttl (ms), claim ttl (ms)
-- Returns: {OK, removed}
-- Again: the claim holds what the request took.
-- Uses: used
local row, claim_key, used = KEYS[1], KEYS[2], KEYS[3]

if redis.call('EXISTS', claim_key) == 1 then
  return {OK, 1}
end
if redis.call('EXISTS', row) == 0 then
  return {OK, 0}
end
local used_at, failure = claim(row, ARGV[1], claim_key, ARGV[2], ARGV[5], used, ARGV[4], ARGV[3],
  {KEYS[4], KEYS[5], KEYS[6]})
if failure then
  return failure
end
return {OK, 1}
