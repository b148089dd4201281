-- Counts the coins of some contacts.
-- KEYS: metas ...
-- ARGV: meta_prefix, queue_prefix
--       prefixes: of all contacts' keys.
-- Returns: {OK, priority, the coins of each tier, ...} for each contact, one after the other
--          priority: false if there is no such contact, empty if it has none, 0 if it is no hash
--          the coins: -1 where a queue has the wrong type
-- Again: it only reads.
-- Runs: HGET metas, EXISTS metas, ZCARD queues
-- Uses: try_call
local reply = {OK}
for _, meta in ipairs(metas) do
  local priority = try_call('HGET', meta, 'priority')
  if priority == false and redis.call('EXISTS', meta) == 1 then
    priority = ''
  elseif priority == nil then
    priority = 0
  end
  reply[#reply + 1] = priority
  local queue = queue_prefix .. string.sub(meta, #meta_prefix + 1) .. ':'
  for _, tier in ipairs(TIERS) do
    reply[#reply + 1] = try_call('ZCARD', queue .. tier) or -1
  end
end
return reply
