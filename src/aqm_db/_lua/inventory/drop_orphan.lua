-- Deletes a row that no queue lists.
-- KEYS: row, idx GOLD, idx SILVER, idx BRONZE
-- ARGV: key_id, 'delete' or 'count'
-- Returns: {OK, deleted, coin_category or false}
-- Again: the row is gone, so the second run deletes nothing.
-- Runs: ZSCORE idx, HGET row, EXISTS row, DEL row
-- Uses: typed
for queue = 2, 4 do
  if redis.call('ZSCORE', KEYS[queue], ARGV[1]) then
    return {OK, 0, false}
  end
end
local tier = typed('HGET', KEYS[1], 'coin_category') or false
if ARGV[2] == 'count' then
  return {OK, redis.call('EXISTS', KEYS[1]), tier}
end
return {OK, redis.call('DEL', KEYS[1]), tier}
