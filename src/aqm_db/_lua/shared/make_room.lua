-- Runs: HGET meta, ZRANGEBYSCORE queues, HSET meta
-- Uses: find_expiry, inspect_coin, look.format_look, look.parse_look, set_aside
-- Sets aside what can't be handed out in a tier's queue that is full, so that it keeps no good coin
-- out. What was looked through isn't looked through again before one of them goes stale.
-- Returns how many entries it looked at, so many at most, and how many of these are gone.
local function make_room(queue, meta, tier, row_prefix, aside, now, coin_ttl, most)
  local looked = 'looked_' .. tier
  local fresh_until, last = parse_look(redis.call('HGET', meta, looked))
  if not fresh_until or fresh_until <= now then
    -- Later than any coin ends.
    fresh_until, last = 999999999999999, nil
  end
  local entries = redis.call('ZRANGEBYSCORE', queue, last and '(' .. last or '-inf', '+inf',
    'WITHSCORES', 'LIMIT', 0, most)
  local gone = 0
  for at = 1, #entries, 2 do
    local id = entries[at]
    local coin, row, fault = inspect_coin(row_prefix, id, tier, now, coin_ttl)
    if coin then
      fresh_until = math.min(fresh_until, find_expiry(coin, coin_ttl))
    else
      set_aside(queue, id, row, fault, aside)
      gone = gone + 1
    end
    last = entries[at + 1]
  end
  if #entries > 0 then
    redis.call('HSET', meta, looked, format_look(fresh_until, last))
  end
  return #entries / 2, gone
end
