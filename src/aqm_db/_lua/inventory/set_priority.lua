-- Changes a contact's priority. A lower one drops the newest coins above its caps; a higher one, or
-- the same, drops nothing, and so does any that takes the place of a malformed one.
-- KEYS: meta, used, used_until, claim, queues[tier]
-- ARGV: sent (ms), priority, row_prefix, claim_ttl (ms), caps[tier] (count)
-- Returns: {OK, dropped} | {NOT_REGISTERED} | {CORRUPT} | {UNKNOWN, shown}
-- Again: the claim says how many the request dropped. Without it a request that is sent again, or
--        arrives late, would undo what others decided meanwhile, and drop what they stored.
-- Runs: GET claim, SET claim, HGET meta, HSET meta, ZRANGE queues, ZREM queues, DEL row
-- Uses: drop_use, encode_id, is_late, read_time, refuse_unregistered
local answer = redis.call('GET', claim)
if answer then
  return {OK, tonumber(answer)}
end
local shown = read_time()
if is_late(sent, shown) then
  return {UNKNOWN, shown}
end
local present = redis.call('HGET', meta, 'priority')
if not present then
  return refuse_unregistered(meta)
end
local lowered = false
for _, higher in ipairs(PRIORITIES) do
  if higher == priority then
    break
  end
  lowered = lowered or higher == present
end
local excess = {}
if lowered then
  for tier, queue in pairs(queues) do
    for _, id in ipairs(redis.call('ZRANGE', queue, caps[tier], -1)) do
      excess[#excess + 1] = {queue, id}
    end
  end
end
-- Rehearsals: what can't be written is found out while nothing is.
if #excess > 0 then
  redis.call('DEL', row_prefix)
  drop_use(used, used_until, '')
end
redis.call('SET', claim, '', 'PX', 1, 'XX')
redis.call('HSET', meta, 'priority', priority)
redis.call('SET', claim, #excess, 'PX', claim_ttl)
for _, entry in ipairs(excess) do
  redis.call('DEL', row_prefix .. encode_id(entry[2]))
  redis.call('ZREM', entry[1], entry[2])
  -- A dropped coin was not used, though it may have been released after a use.
  drop_use(used, used_until, entry[2])
end
return {OK, #excess}
