-- Collects a portion of one contact's garbage: coins of an inactive contact, in whatever state they
-- are, those that are stale of another, and what was used so long ago that nobody can use it again.
-- KEYS: meta, used, used_until, claim, queues[tier], watch, aside
-- ARGV: sent (ms), clock (ms), row_prefix, coin_ttl (ms), inactive (ms), used_ttl (ms)
-- ARGV: claim_ttl (ms), mode ('delete' or 'count'), most (count), first (count), place (count)
--       inactive: a contact whose last message was longer ago is so; most: so many coins are looked
--       at; first, place: the tier's number and the place in its queue from which on; after the
--       last tier, among the rows that no queue lists.
-- Returns: {OK, cleaned, the deleted coins of each tier, and of none, first, place}
--          | {NOT_REGISTERED} | {CORRUPT} | {UNKNOWN, shown}
--          first, place: where it goes on; 0, 0 at the end
-- Again: the claim says what the request deleted. Without it a request that is sent again, or
--        arrives late, would delete what was stored meanwhile.
-- Runs: GET claim, SET claim, HMGET meta, HSET meta, ZRANGE queues, ZREM queues
-- Runs: DEL row, EXISTS row, ZREM aside
-- Uses: confirm_time, drop_use, forget_uses, inspect_coin, is_late, list_aside, name_aside
-- Uses: parse_integer, read_coin, read_time, refuse_unregistered
local LOWEST = PRIORITIES[#PRIORITIES]

local answer = redis.call('GET', claim)
if answer then
  local reply = {OK}
  for number in string.gmatch(answer, '%d+') do
    reply[#reply + 1] = tonumber(number)
  end
  return reply
end
local shown = read_time()
if is_late(sent, shown) then
  return {UNKNOWN, shown}
end
local now = clock or confirm_time(watch, shown, mode == 'count')
local contact = redis.call('HMGET', meta, 'priority', 'last_msg_at')
if not contact[1] then
  return refuse_unregistered(meta)
end
local last_msg_at = parse_integer(contact[2])
if not last_msg_at then
  return {CORRUPT}
end
local is_inactive = last_msg_at < now - inactive
local entries, taken, noted, counts, left = {}, {}, {}, {}, most
local next_first, next_place = 0, 0

for number, tier in ipairs(TIERS) do
  counts[number] = 0
  if number >= first and next_first == 0 then
    local kept = 0
    -- One more, to see whether there are more.
    for position, id in ipairs(redis.call('ZRANGE', queues[tier], place, place + left)) do
      if left == 0 then
        next_first, next_place = number, place + (mode == 'count' and position - 1 or kept)
        break
      end
      left = left - 1
      local _, row, fault = inspect_coin(row_prefix, id, tier, now, coin_ttl)
      if is_inactive or fault == 'stale' then
        entries[#entries + 1] = {queues[tier], id, row}
        taken[row] = true
        counts[number] = counts[number] + (fault ~= 'dangling' and 1 or 0)
      else
        kept = kept + 1
      end
    end
    place = 0
  end
end
local others = #TIERS + 1
counts[others] = 0
if is_inactive and next_first == 0 then
  for position, row in ipairs(list_aside(aside, row_prefix, place, left + 1)) do
    if position > left then
      next_first, next_place = others, mode == 'count' and place + position - 1 or 0
      break
    end
    noted[#noted + 1] = row
    local number = others
    for each, tier in ipairs(TIERS) do
      number = tier == (read_coin(row) or {}).coin_category and each or number
    end
    -- One that is in a queue again is counted there.
    counts[number] = counts[number] + (taken[row] and 0 or redis.call('EXISTS', row))
  end
end
local drops = #entries + #noted > 0
local cleaned = is_inactive and (drops or contact[1] ~= LOWEST)
local reply = {OK, cleaned and 1 or 0}
for _, count in ipairs(counts) do
  reply[#reply + 1] = count
end
reply[#reply + 1] = next_first
reply[#reply + 1] = next_place
if mode == 'count' then
  return reply
end
-- Right whatever follows: what was used so long ago can't be used again.
forget_uses(used, used_until, now, used_ttl)
-- Rehearsals: what can't be written is found out while nothing is.
redis.call('DEL', row_prefix)
redis.call('ZREM', aside, '')
if drops then
  drop_use(used, used_until, '')
end
if is_inactive or drops then
  redis.call('SET', claim, '', 'PX', 1, 'XX')
end
if cleaned then
  redis.call('HSET', meta, 'priority', LOWEST)
end
if is_inactive or drops then
  redis.call('SET', claim, table.concat(reply, ' ', 2), 'PX', claim_ttl)
end
for _, entry in ipairs(entries) do
  redis.call('DEL', entry[3])
  redis.call('ZREM', entry[1], entry[2])
  -- A collected coin was not used, though it may have been released after a use.
  drop_use(used, used_until, entry[2])
end
for _, row in ipairs(noted) do
  redis.call('DEL', row)
  redis.call('ZREM', aside, name_aside(row))
end
return reply
