-- Runs: HMGET meta, ZCARD queues, ZRANGE queues, HMGET row, ZCOUNT used, ZCOUNT used_until
-- Uses: encode_id, list_aside, parse_integer
-- Whether one of a queue's coins is stale, or may be, and how many more coins may be looked at; nil
-- if there are too many to see it now.
local function has_stale(queue, rows, left, about)
  local found = about.call('ZRANGE', queue, 0, left)
  if not found then
    return true, left
  end
  if #found > left then
    return nil, left
  end
  left = left - #found
  for _, id in ipairs(found) do
    local times = about.call('HMGET', rows .. encode_id(id), 'expires_at', 'fetched_at')
    local ends = times and (parse_integer(times[1])
      or (parse_integer(times[2]) or about.now) + about.coin_ttl)
    if ends and ends <= about.now then
      return true, left
    end
  end
  return false, left
end

-- The same of a contact, which is named as it stands in key names. What is wrong with one is found
-- by whoever collects. What it's about: what the names of keys begin with (meta, used, used_until,
-- queue, row), times in ms (now, inactive, used_ttl, coin_ttl), and what runs a command (call).
local function may_have_garbage(contact, aside, left, about)
  local fields = about.call('HMGET', about.meta .. contact, 'priority', 'last_msg_at')
  local last_msg_at = fields and fields[1] and parse_integer(fields[2])
  local oldest_use = string.format('%.0f', about.now - about.used_ttl)
  local oldest_end = string.format('%.0f', about.now)
  if not last_msg_at or about.call('ZCOUNT', about.used .. contact, '-inf', oldest_use) ~= 0
    or about.call('ZCOUNT', about.used_until .. contact, '-inf', oldest_end) ~= 0 then
    return true, left
  end
  local queue, rows = about.queue .. contact .. ':', about.row .. contact .. ':'
  if last_msg_at < about.now - about.inactive then
    local has_any = fields[1] ~= PRIORITIES[#PRIORITIES] or #list_aside(aside, rows, 0, 1) > 0
    for _, tier in ipairs(TIERS) do
      has_any = has_any or about.call('ZCARD', queue .. tier) ~= 0
    end
    return has_any, left
  end
  for _, tier in ipairs(TIERS) do
    local found
    found, left = has_stale(queue .. tier, rows, left, about)
    if found ~= false then
      return found, left
    end
  end
  return false, left
end
