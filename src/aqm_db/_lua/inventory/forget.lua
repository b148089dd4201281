-- Forgets a contact: itself, its queues and its coins, in whatever state they are. What was used is
-- remembered until nobody can use it again, so that it can't come back with the contact.
-- KEYS: meta, used, used_until, claim, queues[tier], contacts, forgotten
-- ARGV: sent (ms), clock (ms), contact_id, row_prefix, claim_prefix, used_ttl (ms), claim_ttl (ms)
-- Returns: {OK, dropped} | {NOT_REGISTERED} | {UNKNOWN, shown}
-- Again: the claim says how many coins the request dropped.
-- Runs: GET claim, SET claim, PEXPIRE claim, EXISTS meta, HMGET meta, DEL meta, ZRANGE queues
-- Runs: DEL queues, DEL row, SREM contacts
-- Uses: drop_use, encode_id, is_late, limit_memory, read_time, try_call
local answer = redis.call('GET', claim)
if answer then
  return {OK, tonumber(answer)}
end
local shown = read_time()
if is_late(sent, shown) then
  return {UNKNOWN, shown}
end
if redis.call('EXISTS', meta) == 0 then
  return {NOT_REGISTERED}
end
local registration = (try_call('HMGET', meta, 'by') or {})[1]
local ids, whole = {}, {meta}
for _, queue in pairs(queues) do
  whole[#whole + 1] = queue
  for _, id in ipairs(try_call('ZRANGE', queue, 0, -1) or {}) do
    ids[#ids + 1] = id
  end
end
-- Rehearsals: what can't be written is found out while nothing is; DEL is the first write itself.
-- ZREM comes before SET: after it, a server that is full refuses nothing: forgetting makes room.
drop_use(used, used_until, '')
redis.call('ZREVRANGE', used_until, 0, 0)
redis.call('SREM', contacts, '')
redis.call('ZADD', forgotten, 'XX', 0, '')
redis.call('SET', claim, '', 'PX', 1, 'XX')
redis.call('PEXPIRE', claim, 1)

local dropped = 0
for _, id in ipairs(ids) do
  dropped = dropped + redis.call('DEL', row_prefix .. encode_id(id))
  -- A dropped coin was not used, though it may have been released after a use.
  drop_use(used, used_until, id)
end
redis.call('DEL', unpack(whole))
redis.call('SREM', contacts, contact_id)
limit_memory(used, used_until, forgotten, contact_id, clock or shown, used_ttl, shown)
if registration then
  -- A registration whose reply was lost is asked again: it must not undo this.
  redis.call('SET', claim_prefix .. registration, '', 'PX', claim_ttl)
end
redis.call('SET', claim, dropped, 'PX', claim_ttl)
return {OK, dropped}
