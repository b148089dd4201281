-- Takes an owner's turn for a round over all owners, and looks whether there is garbage to collect.
-- KEYS: turn, contacts, watch
-- ARGV: clock (ms), round, visit, lasting (ms), working (ms), meta_prefix, used_prefix
-- ARGV: used_until_prefix, queue_prefix, row_prefix, coin_ttl (ms), inactive (ms), used_ttl (ms)
-- ARGV: most_contacts (count), most_coins (count)
--       working: how long the turn lasts while the owner is cared for, lest nobody does so who died.
--       most_contacts, most_coins: of more, it's taken for granted that there is garbage.
-- Returns: {OK, 'passed' | 'busy' | 'idle' | 'work'}
--          passed: the owner was cared for in this round, or somebody else has the turn.
--          busy: the owner is being cared for in this round.
-- Again: the turn says that this visit has taken it.
-- Runs: GET turn, SET turn, SCARD contacts, SMEMBERS contacts, HMGET meta, ZCARD queues
-- Runs: ZRANGE queues, ZRANGEBYSCORE used, ZRANGEBYSCORE used_until
-- Uses: confirm_time, encode_id, inspect_coin, parse_integer, read_time
local LOWEST = PRIORITIES[#PRIORITIES]

local present = redis.call('GET', turn)
local in_round, by, state = string.match(present or '', '^round:(%d+):([%w_-]+)(:?.*)$')
if present and by ~= visit and not (in_round and tonumber(in_round) < tonumber(round)) then
  return {OK, in_round == round and state ~= '' and 'busy' or 'passed'}
end

local now = clock or confirm_time(watch, read_time())

local function has_old(name, before)
  return #redis.call('ZRANGEBYSCORE', name, '-inf', string.format('%.0f', before),
    'LIMIT', 0, 1) > 0
end

-- Whether a contact's turn has come; what is malformed is for the collector to tell.
local function has_garbage(id, inspected)
  local encoded = encode_id(id)
  local contact = redis.call('HMGET', meta_prefix .. encoded, 'priority', 'last_msg_at')
  local last_msg_at = parse_integer(contact[2])
  local is_inactive = not last_msg_at or last_msg_at < now - inactive
  if is_inactive and contact[1] ~= LOWEST or has_old(used_prefix .. encoded, now - used_ttl)
    or has_old(used_until_prefix .. encoded, now) then
    return true
  end
  for _, tier in ipairs(TIERS) do
    local queue = queue_prefix .. encoded .. ':' .. tier
    local coins = redis.call('ZCARD', queue)
    if coins > 0 and is_inactive or coins > most_coins - inspected then
      return true
    end
    inspected = inspected + coins
    for _, coin_id in ipairs(coins > 0 and redis.call('ZRANGE', queue, 0, -1) or {}) do
      local _, _, fault = inspect_coin(row_prefix .. encoded .. ':', coin_id, tier, now, coin_ttl)
      if fault == 'stale' then
        return true
      end
    end
  end
  return false, inspected
end

local function find_work()
  if redis.call('SCARD', contacts) > most_contacts then
    return true
  end
  local found, inspected = false, 0
  for _, id in ipairs(redis.call('SMEMBERS', contacts)) do
    found, inspected = has_garbage(id, inspected)
    if found then
      return true
    end
  end
  return false
end

-- A row of the wrong type is for the collector to tell, too.
local looked, has_work = pcall(find_work)
has_work = not looked or has_work
local value = 'round:' .. round .. ':' .. visit
if has_work then
  redis.call('SET', turn, value .. ':working', 'PX', working)
else
  redis.call('SET', turn, value, 'PX', lasting)
end
return {OK, has_work and 'work' or 'idle'}
