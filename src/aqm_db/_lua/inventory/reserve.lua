-- Reserves slots for coins of contacts that are on their way: as many as are wanted, and the caps
-- and the byte budget leave beside all other leases. The first contacts get the budget.
-- KEYS: leases, leases_until, coming, totals, watch, aside
-- ARGV: sent (ms), clock (ms), request_id, lease_ttl (ms), coin_ttl (ms), budget (bytes)
-- ARGV: meta_prefix, queue_prefix, row_prefix
-- ARGV: added[tier] (count), found[tier] (count), sizes[tier] (bytes)
-- ARGV: caps[priority][tier] (count), wanted ...
--       added, found: what the caller has measured, if anything: the coins that were found, and how
--       many had ever been stored before it began; wanted: contact_id, and the slots of each tier,
--       again and again.
-- Returns: {OK, {code, {slots, count, cap, bytes}, ...}, ...} with the counts before, for each tier
--          of each contact, unless the code isn't OK | {STALE}: measure | {UNFINISHED} | {CORRUPT}
--          | {UNKNOWN, shown}
--          UNFINISHED: what was measured may be gone.
-- Again: the leases remember the request that took them.
-- Runs: HGET meta, HMGET leases, HSET leases, ZCARD queues, ZCARD leases_until
-- Runs: ZRANGEBYSCORE leases_until, ZADD leases_until, HMGET totals, HSET totals
-- Runs: DEL leases, DEL leases_until, DEL coming
-- Uses: coming.add_coming, coming.read_coming, confirm_time, encode_id, end_leases, find_place
-- Uses: is_late, is_lease_over, lease.format_lease, lease.parse_lease, make_room, read_counts
-- Uses: read_time, refuse_unregistered, try_call
local LOOKS = 100
local WIDTH = 1 + #TIERS

local shown = read_time()
-- Whoever is given a clock is alone with it, and slots are everybody's: only coins end by it.
local confirmed = confirm_time(watch, shown)
local places, names = {}, {}
for first = 1, #wanted, WIDTH do
  for rank, tier in ipairs(TIERS) do
    wanted[first + rank] = tonumber(wanted[first + rank])
    if wanted[first + rank] > 0 then
      places[#places + 1] = tier .. ':' .. wanted[first]
      names[#names + 1] = request_id .. ':' .. places[#places]
    end
  end
end
local again, granted = false, {}
for number, value in ipairs(redis.call('HMGET', leases, unpack(names))) do
  local slots = parse_lease(value)
  granted[places[number]] = slots
  again = again or slots and true
end
if not again and is_late(sent, shown) then
  return {UNKNOWN, shown}
end

-- The leases that may be over: those that end first, and, where a clock was set back, last.
local function list_ending(from, to)
  return redis.call('ZRANGEBYSCORE', leases_until, from, to, 'LIMIT', 0, LOOKS)
end

if not again then
  local ended, values, is_more = {}, {}, false
  for _, some in ipairs({list_ending('-inf', string.format('%.0f', shown)),
    list_ending(string.format('(%.0f', shown + LONGEST_PAUSE), '+inf')}) do
    is_more = is_more or #some == LOOKS
    for number, value in ipairs(#some > 0 and redis.call('HMGET', leases, unpack(some)) or {}) do
      local slots, _, ends = parse_lease(value)
      if not slots or not find_place(some[number]) or is_lease_over(ends, confirmed, shown) then
        ended[#ended + 1] = some[number]
        values[#values + 1] = value
      end
    end
  end
  if #ended > 0 then
    if not end_leases(leases, leases_until, coming, totals, ended, values) then
      return {CORRUPT}
    end
    if is_more then
      return {UNFINISHED}
    end
  end
end

local slots, sums = read_coming(coming, totals, places)
local stored = read_counts(totals, TIERS)
if not slots or not stored then
  return {CORRUPT}
end
if not again and redis.call('ZCARD', leases_until) == 0 then
  -- Where no lease is, nothing is coming, whatever was left behind by hand.
  redis.call('DEL', leases, coming)
  for place in pairs(slots) do
    slots[place] = 0
  end
  for sum in pairs(sums) do
    sums[sum] = 0
  end
end
for place, count in pairs(granted) do
  -- What it has itself isn't in its way.
  local sum = 'coming_' .. string.match(place, '^[^:]*')
  slots[place] = math.max(slots[place] - count, 0)
  sums[sum] = math.max(sums[sum] - count, 0)
end

-- At most so many coins are stored: as many as ever were, but for those that are known to be gone.
local gone, fields = {}, {}
for number, tier in ipairs(TIERS) do
  fields[number] = 'gone_' .. tier
end
local bytes = 0
for number, text in ipairs(redis.call('HMGET', totals, unpack(fields))) do
  local tier = TIERS[number]
  local known = text and #text < 16 and string.find(text, '^%-?%d+$') and tonumber(text)
  if text and not known then
    return {CORRUPT}
  end
  if found[tier] and added[tier] and stored[tier] >= added[tier] then
    known = added[tier] - found[tier]
    gone[#gone + 1] = fields[number]
    gone[#gone + 1] = string.format('%.0f', known)
  elseif found[tier] then
    -- The totals were begun anew since.
    known = nil
  end
  if not again and (not known or stored[tier] < known) then
    return {STALE}
  end
  bytes = bytes + (stored[tier] - (known or 0) + sums['coming_' .. tier]) * sizes[tier]
end

local is_measured = #gone > 0
local reply, taken, until_then, changes = {OK}, {}, {}, {}
local looks_left, is_unfinished = LOOKS, false

-- How many coins a queue holds, once what can't be handed out keeps no good one out: that is looked
-- for where others leave less room than is wanted. Nil if it's no queue.
local function count_coins(meta, contact, tier, cap, wanting)
  local queue = queue_prefix .. contact .. ':' .. tier
  local count = try_call('ZCARD', queue)
  if count and not again and cap > 0 and count + wanting > cap then
    local looks, gone = make_room(queue, meta, tier, row_prefix .. contact .. ':', aside,
      clock or confirmed, coin_ttl, looks_left)
    looks_left = looks_left - looks
    is_unfinished = is_unfinished or gone > 0 or looks_left == 0
    count = count - gone
  end
  return count
end

-- What a contact gets: its part of the reply, and whether the bytes that may be stored are in the
-- way of more.
local function grant(first, contact_id)
  local contact = encode_id(contact_id)
  local meta = meta_prefix .. contact
  local priority = try_call('HGET', meta, 'priority')
  if priority == false then
    return refuse_unregistered(meta)
  elseif not caps[priority] then
    return {CORRUPT}
  end
  local part, is_short = {OK}, false
  for rank, tier in ipairs(TIERS) do
    local want, place = wanted[first + rank], tier .. ':' .. contact_id
    local size, cap = sizes[tier], caps[priority][tier]
    local count, some = 0, 0
    if want > 0 then
      count = count_coins(meta, contact, tier, cap, slots[place] + want)
      if not count then
        return {CORRUPT}
      end
      count = count + slots[place]
      local room = math.max(math.min(want, cap - count), 0)
      some = again and (granted[place] or 0)
        or math.max(math.min(room, math.floor((budget - bytes) / size)), 0)
      is_short = is_short or some < room
    end
    part[#part + 1] = {some, count, cap, bytes}
    bytes = bytes + some * size
  end
  return part, is_short
end

for first = 1, #wanted, WIDTH do
  local contact_id = wanted[first]
  local part, is_short = grant(first, contact_id)
  if is_short and not again and not is_measured then
    return {STALE}
  end
  reply[#reply + 1] = part
  for rank, tier in ipairs(TIERS) do
    local some = part[1] == OK and part[1 + rank][1] or 0
    if some > 0 then
      local place = tier .. ':' .. contact_id
      local name = request_id .. ':' .. place
      changes[place] = some
      taken[#taken + 1] = name
      taken[#taken + 1] = format_lease(some, 0,
        {confirmed + lease_ttl, shown + lease_ttl, lease_ttl})
      until_then[#until_then + 1] = string.format('%.0f', shown + lease_ttl)
      until_then[#until_then + 1] = name
    end
  end
end
if is_unfinished then
  return {UNFINISHED}
end
if again then
  return reply
end
-- Rehearsal: what can't be written is found out while nothing is; HSET is the first write itself.
redis.call('ZADD', leases_until, 'XX', 0, '')
if is_measured then
  redis.call('HSET', totals, unpack(gone))
end
if #taken > 0 then
  add_coming(coming, totals, slots, sums, changes)
  redis.call('HSET', leases, unpack(taken))
  redis.call('ZADD', leases_until, unpack(until_then))
end
return reply
