-- Forgets a contact: itself, its queues and its coins, in whatever state they are. Of many coins
-- portions go before, and the contact with the last. What was used is remembered until nobody can
-- use it again, so that it can't come back with the contact.
-- KEYS: meta, used, used_until, claim, queues[tier], contacts, forgotten, aside
-- ARGV: sent (ms), clock (ms), contact_id, row_prefix, claim_prefix, used_ttl (ms), claim_ttl (ms)
-- ARGV: most (count)
-- Returns: {OK, dropped, forgotten, whether there is more} | {NOT_REGISTERED} | {UNKNOWN, shown}
--          forgotten: 1 if the contact is gone, 0 if only coins are
-- Again: the claim says what the request dropped.
-- Runs: GET claim, SET claim, PEXPIRE claim, EXISTS meta, HMGET meta, DEL meta, ZRANGE queues
-- Runs: ZREM queues, DEL queues, DEL row, ZREM aside, SREM contacts
-- Uses: drop_use, encode_id, is_late, limit_memory, list_aside, name_aside, read_time, try_call
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
local exists = redis.call('EXISTS', meta) == 1
local registration = (try_call('HMGET', meta, 'by') or {})[1]
local entries, left = {}, most
-- One more of each, to see whether there are more.
for _, queue in pairs(exists and queues or {}) do
  for _, id in ipairs(try_call('ZRANGE', queue, 0, left) or {}) do
    entries[#entries + 1] = {queue, id}
  end
  left = math.max(most - #entries, 0)
end
local noted = list_aside(aside, row_prefix, 0, left + 1)
if not exists and #noted == 0 then
  return {NOT_REGISTERED}
end
local more = #entries + #noted > most
local gone = exists and not more
-- Rehearsals: what can't be written is found out while nothing is; DEL is the first write itself.
-- ZREM comes before SET: after it, a server that is full refuses nothing: forgetting makes room.
drop_use(used, used_until, '')
redis.call('ZREVRANGE', used_until, 0, 0)
redis.call('ZREM', aside, '')
redis.call('SREM', contacts, '')
redis.call('ZADD', forgotten, 'XX', 0, '')
redis.call('ZRANGEBYSCORE', forgotten, '-inf', '-inf')
redis.call('SET', claim, '', 'PX', 1, 'XX')
redis.call('PEXPIRE', claim, 1)

local dropped = 0
for place = 1, math.min(#entries, most) do
  local queue, id = entries[place][1], entries[place][2]
  dropped = dropped + redis.call('DEL', row_prefix .. encode_id(id))
  redis.call('ZREM', queue, id)
  -- A dropped coin was not used, though it may have been released after a use.
  drop_use(used, used_until, id)
end
for place = 1, math.min(#noted, most - math.min(#entries, most)) do
  dropped = dropped + redis.call('DEL', noted[place])
  redis.call('ZREM', aside, name_aside(noted[place]))
end
if gone then
  local whole = {meta}
  for _, queue in pairs(queues) do
    whole[#whole + 1] = queue
  end
  redis.call('DEL', unpack(whole))
  redis.call('SREM', contacts, contact_id)
  limit_memory(used, used_until, forgotten, contact_id, clock or shown, used_ttl, shown)
end
if gone and registration then
  -- A registration whose reply was lost is asked again: it must not undo this.
  redis.call('SET', claim_prefix .. registration, '', 'PX', claim_ttl)
end
local reply = {OK, dropped, gone and 1 or 0, more and 1 or 0}
redis.call('SET', claim, table.concat(reply, ' ', 2), 'PX', claim_ttl)
return reply
