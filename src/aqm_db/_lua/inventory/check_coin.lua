-- Looks at one public half and its entries in queues, and mends them, if asked to.
-- KEYS: meta, used, idx GOLD, idx SILVER, idx BRONZE
-- ARGV: row prefix, key_id, whether it is a valid id (1 or 0), 'look' or 'repair', now (ms),
--       coin ttl (ms), used ttl (ms), caps GOLD SILVER BRONZE of BESTIE, of MATE, of STRANGER
-- Returns: {OK, kind, detail, repaired, kind, detail, repaired, ...}
-- Again: what was mended is no problem any more.
-- Runs: HGET row, HGET meta, ZSCORE idx, ZSCORE used, ZCARD idx, ZRANGE idx, ZADD idx, ZREM idx
-- Uses: coin, problems
local meta, used = KEYS[1], KEYS[2]
local prefix, id, repair, now = ARGV[1], ARGV[2], ARGV[4] == 'repair', tonumber(ARGV[5])
local TIERS = {'GOLD', 'SILVER', 'BRONZE'}
local NUMBERS = {GOLD = 1, SILVER = 2, BRONZE = 3}
local CAPS = {BESTIE = 7, MATE = 10, STRANGER = 13}

local tier = typed('HGET', prefix .. encode(id), 'coin_category')
local _, row, fault = coin(prefix, id, tier, now, ARGV[6])
local own = NUMBERS[tier]
if ARGV[3] == '0' then
  fault = 'dangling'
elseif fault ~= 'dangling' and (fault == 'corrupt' or not own) then
  fault = 'corrupt'
  problem('corrupt_row', 'the row has the wrong type, or a field is missing or malformed')
end
local keyed = fault ~= 'dangling' and fault ~= 'corrupt'

local wrong, listed = {}, nil
for number = 1, 3 do
  -- nil where the queue has the wrong type: then nothing is said of entries.
  local score = typed('ZSCORE', KEYS[number + 2], id)
  if keyed and number == own then
    listed = score
  elseif score then
    wrong[#wrong + 1] = KEYS[number + 2]
    problem(keyed and 'misplaced_entry' or 'dangling_entry', keyed
      and 'the ' .. TIERS[number] .. ' queue lists it, and it is of another tier'
      or 'the ' .. TIERS[number] .. ' queue lists it, and there is no such coin to hand out', repair)
  end
end

-- Why a coin that no queue lists can't go back to its own; nil if it can. A used coin that a queue
-- lists was released, and is no problem; of one that no queue lists, nobody knows.
local function obstacle()
  local used_at = typed('ZSCORE', used, id)
  if used_at == nil or used_at and tonumber(used_at) > now - ARGV[7] then
    return 'it was used'
  end
  local first = CAPS[typed('HGET', meta, 'priority')]
  if not first then
    return 'its contact is not registered, or malformed'
  end
  local queue, cap = KEYS[own + 2], tonumber(ARGV[first + own])
  local count = redis.call('ZCARD', queue)
  if count >= cap and cap > 0 then
    -- Entries that can't be handed out don't keep it out: they are problems of their own.
    for _, other in ipairs(redis.call('ZRANGE', queue, 0, -1)) do
      local _, _, why = coin(prefix, other, tier, now, ARGV[6])
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
  local reason = obstacle()
  back = not reason
  problem('orphaned_row', 'no queue lists it' .. (reason and ', and ' .. reason or ''),
    repair and back)
end
if not repair then
  return found
end

-- Rehearsals: what can't be written is found out while nothing is.
for _, queue in ipairs(wrong) do
  redis.call('ZREM', queue, '')
end
if back then
  redis.call('ZADD', KEYS[own + 2], redis.call('HGET', row, 'fetched_at'), id)
end
for _, queue in ipairs(wrong) do
  redis.call('ZREM', queue, id)
end
return found
