-- Looks at one public half and its entries in queues, and mends them, if asked to.
-- KEYS: meta, used, used_until, queues[tier], totals, aside
-- ARGV: clock (ms), row_prefix, key_id, valid ('1' or '0'), mode ('look' or 'repair')
-- ARGV: coin_ttl (ms), used_ttl (ms), caps[priority][tier] (count)
--       valid: whether a coin may have the id.
-- Returns: {OK, kind, detail, repaired, kind, detail, repaired, ...}
-- Again: what was mended is no problem any more.
-- Runs: HGET meta, HDEL meta, HINCRBY totals, ZSCORE queues, ZCARD queues, ZRANGE queues, ZADD queues
-- Runs: ZREM queues, ZSCORE aside, ZADD aside, ZREM aside
-- Uses: encode_id, inspect_coin, name_aside, note_problem, read_coin, read_time, recall_use, try_call
local repair, reply = mode == 'repair', {OK}
local shown = read_time()
local now = clock or shown

local row = row_prefix .. encode_id(key_id)
local kept = read_coin(row) or {}
local tier = kept.coin_category
local _, _, fault = inspect_coin(row_prefix, key_id, tier, now, coin_ttl)
local own = queues[tier]
if valid == '0' then
  fault = 'dangling'
elseif fault ~= 'dangling' and (fault == 'corrupt' or not own) then
  fault = 'corrupt'
  note_problem(reply, 'corrupt_row',
    'the row has the wrong type, or a field is missing or malformed')
end
local keyed = fault ~= 'dangling' and fault ~= 'corrupt'

local wrong, listed = {}, nil
for _, each in ipairs(TIERS) do
  -- nil where the queue has the wrong type: then nothing is said of entries.
  local score = try_call('ZSCORE', queues[each], key_id)
  if keyed and each == tier then
    listed = score
  elseif score then
    wrong[#wrong + 1] = queues[each]
    note_problem(reply, keyed and 'misplaced_entry' or 'dangling_entry', keyed
      and 'the ' .. each .. ' queue lists it, and it is of another tier'
      or 'the ' .. each .. ' queue lists it, and there is no such coin to hand out', repair)
  end
end

-- Why a coin that no queue lists can't go back to its own; nil if it can. A used coin that a queue
-- lists was released, and is no problem; of one that no queue lists, nobody knows.
local function find_obstacle()
  local was_used = recall_use(used, used_until, key_id, now, used_ttl)
  if was_used == nil or was_used then
    return 'it was used'
  end
  local priority = try_call('HGET', meta, 'priority')
  if not caps[priority] then
    return 'its contact is not registered, or malformed'
  end
  local cap, count = caps[priority][tier], redis.call('ZCARD', own)
  if count >= cap and cap > 0 then
    -- Entries that can't be handed out don't keep it out: they are problems of their own.
    for _, other in ipairs(redis.call('ZRANGE', own, 0, -1)) do
      local _, _, why = inspect_coin(row_prefix, other, tier, now, coin_ttl)
      if why == 'dangling' or why == 'corrupt' then
        count = count - 1
      end
    end
  end
  if count >= cap then
    return 'its queue is full'
  end
end

local back = false
if listed == false then
  local obstacle = find_obstacle()
  back = not obstacle
  note_problem(reply, 'orphaned_row',
    'no queue lists it' .. (obstacle and ', and ' .. obstacle or ''), repair and back)
end
-- A row that no queue lists is noted, so that it goes with its contact.
local member = name_aside(row)
local noted = try_call('ZSCORE', aside, member)
local is_surplus = noted and (fault == 'dangling' or listed or back)
local is_unnoted = noted == false and (fault == 'corrupt' or listed == false) and not back
if is_surplus and not back then
  note_problem(reply, 'dangling_entry', 'the index of rows that were set aside lists it, and '
    .. (listed and 'a queue does, too' or 'there is no such row'), repair)
end
if not repair then
  return reply
end

-- Rehearsals: what can't be written is found out while nothing is.
for _, queue in ipairs(wrong) do
  redis.call('ZREM', queue, '')
end
if is_surplus or is_unnoted then
  redis.call('ZREM', aside, '')
  redis.call('ZADD', aside, 'XX', 0, '')
end
if back then
  -- Its place is in what may have been looked through; and too many of them are harmless.
  redis.call('HDEL', meta, 'looked_' .. tier)
  redis.call('HINCRBY', totals, tier, 1)
  redis.call('ZADD', own, kept.fetched_at, key_id)
end
for _, queue in ipairs(wrong) do
  redis.call('ZREM', queue, key_id)
end
if is_surplus then
  redis.call('ZREM', aside, member)
elseif is_unnoted then
  redis.call('ZADD', aside, 0, member)
end
return reply
