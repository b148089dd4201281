-- Which of some contacts may have something to collect; it looks at so many coins at most.
-- KEYS: aside, metas ...
-- ARGV: clock (ms), meta_prefix, used_prefix, used_until_prefix, queue_prefix, row_prefix
-- ARGV: coin_ttl (ms), inactive (ms), used_ttl (ms), most (count)
--       prefixes: of all contacts' keys; inactive: as of collect.
-- Returns: {OK, contacts, place, ...}
--          contacts: how many were looked at; places: in the list, of those that may have something
-- Again: it only reads.
-- Runs: HMGET metas, ZCARD queues, ZRANGE queues, HMGET row, ZCOUNT used, ZCOUNT used_until
-- Uses: encode_id, list_aside, parse_integer, read_time, try_call
local LOWEST = PRIORITIES[#PRIORITIES]
-- Whoever collects knows whether the clock has jumped, and takes note of what it shows.
local now = clock or read_time()
local left = most
local oldest_use, oldest_end = string.format('%.0f', now - used_ttl), string.format('%.0f', now)

-- Whether one of a queue's coins is stale, or may be; nil if there are too many to see it now.
local function has_stale(queue, rows)
  local found = try_call('ZRANGE', queue, 0, left)
  if not found then
    return true
  end
  if #found > left then
    return nil
  end
  left = left - #found
  for _, id in ipairs(found) do
    local times = try_call('HMGET', rows .. encode_id(id), 'expires_at', 'fetched_at')
    local ends = times and (parse_integer(times[1]) or (parse_integer(times[2]) or now) + coin_ttl)
    if ends and ends <= now then
      return true
    end
  end
  return false
end

-- The same of a contact. What is wrong with one is found by whoever collects.
local function may_have_garbage(meta)
  local contact = string.sub(meta, #meta_prefix + 1)
  local fields = try_call('HMGET', meta, 'priority', 'last_msg_at')
  local last_msg_at = fields and fields[1] and parse_integer(fields[2])
  if not last_msg_at or try_call('ZCOUNT', used_prefix .. contact, '-inf', oldest_use) ~= 0
    or try_call('ZCOUNT', used_until_prefix .. contact, '-inf', oldest_end) ~= 0 then
    return true
  end
  local queue, rows = queue_prefix .. contact .. ':', row_prefix .. contact .. ':'
  if last_msg_at < now - inactive then
    local has_any = fields[1] ~= LOWEST or #list_aside(aside, rows, 0, 1) > 0
    for _, tier in ipairs(TIERS) do
      has_any = has_any or try_call('ZCARD', queue .. tier) ~= 0
    end
    return has_any
  end
  for _, tier in ipairs(TIERS) do
    local found = has_stale(queue .. tier, rows)
    if found ~= false then
      return found
    end
  end
  return false
end

local reply = {OK, 0}
for place, meta in ipairs(metas) do
  local found = may_have_garbage(meta)
  if found == nil and place > 1 then
    break
  end
  if found ~= false then
    reply[#reply + 1] = place - 1
  end
  reply[2] = place
  if found == nil then
    break
  end
end
return reply
