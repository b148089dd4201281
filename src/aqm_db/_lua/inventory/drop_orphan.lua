-- Deletes a row that no queue lists.
-- KEYS: row, queues[tier]
-- ARGV: key_id, mode ('delete' or 'count')
-- Returns: {OK, deleted, coin_category or false}
-- Again: the row is gone, so the second run deletes nothing.
-- Runs: ZSCORE queues, EXISTS row, DEL row
-- Uses: read_coin
for _, queue in pairs(queues) do
  if redis.call('ZSCORE', queue, key_id) then
    return {OK, 0, false}
  end
end
local tier = (read_coin(row) or {}).coin_category or false
if mode == 'count' then
  return {OK, redis.call('EXISTS', row), tier}
end
return {OK, redis.call('DEL', row), tier}
