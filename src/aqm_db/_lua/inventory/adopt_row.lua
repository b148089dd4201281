-- Notes a public half that no queue lists, so that it goes with its contact.
-- KEYS: row, aside, queues[tier]
-- ARGV: key_id
-- Returns: {OK, noted}
-- Again: it is noted by then.
-- Runs: EXISTS row, ZSCORE queues, ZADD aside
-- Uses: name_aside, try_call
if redis.call('EXISTS', row) == 0 then
  return {OK, 0}
end
for _, queue in pairs(queues) do
  if try_call('ZSCORE', queue, key_id) then
    return {OK, 0}
  end
end
return {OK, redis.call('ZADD', aside, 'NX', 0, name_aside(row))}
