-- Takes an owner's turn for a round over all owners, and looks whether there is garbage to collect.
-- KEYS: turn, contacts, watch, aside
-- ARGV: clock (ms), round, visit, working (ms), meta_prefix, used_prefix, used_until_prefix
-- ARGV: queue_prefix, row_prefix, coin_ttl (ms), inactive (ms), used_ttl (ms), most_contacts (count)
-- ARGV: most_coins (count)
--       working: how long the turn lasts, unless it's kept: lest nobody cares for the owner who died.
--       most_contacts, most_coins: of more, it's taken for granted that there is garbage.
-- Returns: {OK, 'passed' | 'busy' | 'idle' | 'work'}
--          passed: the owner was cared for in this round, or somebody else has the turn.
--          busy: the owner is being cared for in this round.
-- Again: the turn says that this visit has taken it, or that it's over.
-- Runs: GET turn, SCARD contacts, SMEMBERS contacts
-- Uses: confirm_time, encode_id, has_turn, may_have_garbage, read_time, set_turn
local present = redis.call('GET', turn)
local in_round, by, state = string.match(present or '', '^round:(%d+):([%w_-]+)(:?.*)$')
local is_own = by == visit and state ~= ''
local is_over = in_round and tonumber(in_round) < tonumber(round)
if not is_own and not is_over and has_turn(present, turn) then
  return {OK, in_round == round and state ~= '' and 'busy' or 'passed'}
end

local about = {meta = meta_prefix, used = used_prefix, used_until = used_until_prefix,
  queue = queue_prefix, row = row_prefix, now = clock or confirm_time(watch, read_time()),
  inactive = inactive, used_ttl = used_ttl, coin_ttl = coin_ttl, call = redis.call}

local function find_work()
  if redis.call('SCARD', contacts) > most_contacts then
    return true
  end
  local found, left = false, most_coins
  for _, id in ipairs(redis.call('SMEMBERS', contacts)) do
    found, left = may_have_garbage(encode_id(id), aside, left, about)
    if found ~= false then
      return true
    end
  end
  return false
end

-- A row of the wrong type is for the collector to tell, too.
local looked, has_work = pcall(find_work)
has_work = not looked or has_work
set_turn(turn, 'round:' .. round .. ':' .. visit .. ':working', working)
return {OK, has_work and 'work' or 'idle'}
