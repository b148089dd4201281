-- Counts the coins of some contacts.
-- KEYS: metas ...
-- ARGV: meta_prefix, queue_prefix
--       prefixes: of all contacts' keys.
-- Returns: {OK, priority, the coins of each tier, ...} for each contact, one after the other
--          priority: false if there is no such contact, empty if it has none, 0 if it is no hash
--          the coins: -1 where a queue has the wrong type
-- Again: it only reads.
-- Runs: HGET metas, EXISTS metas, ZCARD queues
-- Uses: run_work

-- All of them, with what runs a command.
local function count(call)
  local reply, place, suffixes = {OK}, 1, {}
  for rank, tier in ipairs(TIERS) do
    suffixes[rank] = ':' .. tier
  end
  for _, meta in ipairs(metas) do
    local priority = call('HGET', meta, 'priority')
    if priority == false and redis.call('EXISTS', meta) == 1 then
      priority = ''
    elseif priority == nil then
      priority = 0
    end
    reply[place + 1] = priority
    local contact = string.sub(meta, #meta_prefix + 1)
    for rank = 1, #TIERS do
      reply[place + 1 + rank] = call('ZCARD', queue_prefix .. contact .. suffixes[rank]) or -1
    end
    place = place + 1 + #TIERS
  end
  return reply
end

return run_work(count)
