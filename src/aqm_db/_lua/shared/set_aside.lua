-- Runs: DEL row, ZREM queues, ZADD aside
-- Uses: name_aside
-- Takes a coin that can't be handed out from its queue, so that it blocks nothing. A corrupt row
-- stays for inspection, and is noted, so that it goes with its contact.
local function set_aside(queue, id, row, fault, aside)
  if fault ~= 'dangling' then
    -- A rehearsal: a queue that can't be written keeps its rows.
    redis.call('ZREM', queue, '')
  end
  if fault == 'stale' then
    redis.call('DEL', row)
  elseif fault == 'corrupt' then
    redis.call('ZADD', aside, 0, name_aside(row))
  end
  redis.call('ZREM', queue, id)
end
