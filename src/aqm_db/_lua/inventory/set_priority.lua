-- Changes a contact's priority. A lower one drops the newest coins above its caps, many of them in
-- portions; a higher one, or the same, drops nothing, and so does any that takes the place of a
-- malformed one.
-- KEYS: meta, used, used_until, claim, queues[tier]
-- ARGV: sent (ms), priority, row_prefix, claim_ttl (ms), most (count), goes_on, caps[tier] (count)
--       goes_on: empty in the first portion; a later one changes nothing any more where the
--       priority is another one.
-- Returns: {OK, dropped, whether there is more} | {NOT_REGISTERED} | {CORRUPT} | {UNKNOWN, shown}
-- Again: the claim says how many the request dropped. Without it a request that is sent again, or
--        arrives late, would undo what others decided meanwhile, and drop what they stored. While
--        there is more, the contact has a mark (excess), by which another request goes on.
-- Runs: GET claim, SET claim, HMGET meta, HSET meta, HDEL meta, ZCARD queues, ZRANGE queues
-- Runs: ZREM queues, DEL row
-- Uses: drop_use, encode_id, is_late, read_time, refuse_unregistered
local answer = redis.call('GET', claim)
if answer then
  local dropped, more = string.match(answer, '^(%d+) (%d+)$')
  return {OK, tonumber(dropped), tonumber(more)}
end
local shown = read_time()
if is_late(sent, shown) then
  return {UNKNOWN, shown}
end
local contact = redis.call('HMGET', meta, 'priority', 'excess')
local present, unfinished = contact[1], contact[2]
if not present then
  return refuse_unregistered(meta)
end
if goes_on ~= '' and present ~= priority then
  return {OK, 0, 0}
end
local lowered = unfinished and present == priority
for _, higher in ipairs(PRIORITIES) do
  if higher == priority then
    break
  end
  lowered = lowered or higher == present
end
local excess, more = {}, false
if lowered then
  for tier, queue in pairs(queues) do
    local above = math.max(redis.call('ZCARD', queue) - caps[tier], 0)
    local newest = math.min(above, most - #excess)
    more = more or newest < above
    for _, id in ipairs(newest > 0 and redis.call('ZRANGE', queue, -newest, -1) or {}) do
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
redis.call('HDEL', meta, '')
redis.call('HSET', meta, 'priority', priority)
if more then
  redis.call('HSET', meta, 'excess', 1)
elseif unfinished then
  redis.call('HDEL', meta, 'excess')
end
redis.call('SET', claim, #excess .. ' ' .. (more and 1 or 0), 'PX', claim_ttl)
for _, entry in ipairs(excess) do
  redis.call('DEL', row_prefix .. encode_id(entry[2]))
  redis.call('ZREM', entry[1], entry[2])
  -- A dropped coin was not used, though it may have been released after a use.
  drop_use(used, used_until, entry[2])
end
return {OK, #excess, more and 1 or 0}
