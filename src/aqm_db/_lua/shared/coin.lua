-- Runs: HMGET row, EXISTS row, DEL row, ZREM idx
-- Uses: encode, integer, typed
-- A queued coin's row: its fields and its name, or nil, its name and why it can't be handed out:
-- 'dangling' (there is no row), 'corrupt', or 'stale' (its private half is gone).
-- Fields: coin_category, public_key, signature, fetched_at, expires_at, by: the request that
-- stored it.
local function coin(prefix, id, tier, now, ttl)
  local row = prefix .. encode(id)
  local fields = typed('HMGET', row, 'coin_category', 'public_key', 'signature',
    'fetched_at', 'expires_at', 'by')
  if not fields then
    return nil, row, 'corrupt'
  end
  local fetched_at = integer(fields[4])
  local expires_at = fetched_at and (fields[5] and integer(fields[5]) or fetched_at + ttl)
  if fields[1] ~= tier or not fields[2] or not fields[3] or not fetched_at
    or (fields[5] and not integer(fields[5])) then
    return nil, row, redis.call('EXISTS', row) == 0 and 'dangling' or 'corrupt'
  end
  if expires_at <= now then
    return nil, row, 'stale'
  end
  return fields, row
end

-- Takes a coin that can't be handed out from its queue, so that it blocks nothing. A corrupt row
-- stays for inspection.
local function set_aside(queue, id, row, fault)
  if fault == 'stale' then
    -- A rehearsal: a queue that can't be written keeps its rows.
    redis.call('ZREM', queue, '')
    redis.call('DEL', row)
  end
  redis.call('ZREM', queue, id)
end
