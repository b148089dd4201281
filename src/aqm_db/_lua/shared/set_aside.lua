-- Runs: DEL row, ZREM queues
-- Takes a coin that can't be handed out from its queue, so that it blocks nothing. A corrupt row
-- stays for inspection.
local function set_aside(queue, id, row, fault)
  if fault == 'stale' then
    -- A rehearsal: a queue that can't be written keeps its rows.
    redis.call('ZREM', queue, '')
    redis.call('DEL', row)
  end
  redis.call('ZREM', queue, id)
end
