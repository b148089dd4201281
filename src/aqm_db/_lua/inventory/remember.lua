-- Remembers coins of one contact that were used, as a backup knows them. One that an older state of
-- this inventory still holds goes, unless it was released after a later use.
-- KEYS: meta, used, used_until, queues[tier], forgotten, aside
-- ARGV: clock (ms), contact_id, row_prefix, used_ttl (ms), coins ...
--       coins: key_id, used_at (ms), ends (ms), again and again; what there is none of is empty.
-- Returns: {OK, dropped}
-- Again: what is remembered isn't changed by it.
-- Runs: EXISTS meta, ZSCORE used, ZADD used, ZADD used_until, ZREM queues, DEL row
-- Runs: ZREM aside
-- Uses: encode_id, limit_memory, name_aside, read_time
local function is_news(id, used_at)
  if not used_at then
    return not redis.call('ZSCORE', used, id) and not redis.call('ZSCORE', used_until, id)
  end
  return (tonumber(redis.call('ZSCORE', used, id)) or -1) < used_at
end

local shown = read_time()
local now = clock or shown
-- Rehearsals: what can't be written is found out while nothing is.
redis.call('ZADD', used, 'XX', 0, '')
redis.call('ZADD', used_until, 'XX', 0, '')
redis.call('ZADD', forgotten, 'XX', 0, '')
redis.call('ZRANGEBYSCORE', forgotten, '-inf', '-inf')
for _, queue in pairs(queues) do
  redis.call('ZREM', queue, '')
end
redis.call('DEL', row_prefix)
redis.call('ZREM', aside, '')
local is_registered = redis.call('EXISTS', meta) == 1
if not is_registered then
  limit_memory(used, used_until, forgotten, contact_id, now, used_ttl, shown)
end

local dropped = 0
for place = 1, #coins, 3 do
  local id, used_at, ends = coins[place], tonumber(coins[place + 1]), tonumber(coins[place + 2])
  if is_news(id, used_at) then
    local row = row_prefix .. encode_id(id)
    dropped = dropped + redis.call('DEL', row)
    redis.call('ZREM', aside, name_aside(row))
    for _, queue in pairs(queues) do
      redis.call('ZREM', queue, id)
    end
  end
  if used_at and used_at > now - used_ttl then
    redis.call('ZADD', used, 'GT', coins[place + 1], id)
  end
  if ends and ends > now then
    redis.call('ZADD', used_until, 'GT', coins[place + 2], id)
  end
end
if not is_registered then
  limit_memory(used, used_until, forgotten, contact_id, now, used_ttl, shown)
end
return {OK, dropped}
