-- Reserves slots for coins of one contact that are on their way: as many as are wanted, and the
-- caps and the byte budget leave beside all other leases.
-- KEYS: leases, epoch, meta, queues[tier], watch
-- ARGV: sent (ms), request_id, contact_id, lease_ttl (ms), budget (bytes)
-- ARGV: stored (bytes), measured_epoch, wanted[tier] (count), sizes[tier] (bytes), caps[priority][tier] (count)
--       stored: as was measured in the measured epoch.
-- Returns: {OK, {slots, count, cap, bytes}, ...} with the counts before, for each tier | {STALE}
--          | {NOT_REGISTERED} | {CORRUPT} | {UNKNOWN, shown}
-- Again: the leases remember the request that took them.
-- Runs: HGET meta, HGETALL leases, HDEL leases, HSET leases, GET epoch, INCRBY epoch, ZCARD queues
-- Uses: confirm_time, is_late, is_lease_over, lease.format_lease, lease.parse_lease, parse_integer
-- Uses: read_time
-- Uses: refuse_unregistered
local priority = redis.call('HGET', meta, 'priority')
if not priority then
  return refuse_unregistered(meta)
end
if not caps[priority] or not parse_integer(redis.call('GET', epoch) or '0') then
  return {CORRUPT}
end
local shown = read_time()
-- Whoever is given a clock is alone with it, and slots are everybody's.
local confirmed = confirm_time(watch, shown)
-- A coin that was stored under a lease may have been measured or not, so a lease takes all of its
-- bytes until it ends.
local bytes, coming, granted, ended = stored, {}, {}, {}
local held = redis.call('HGETALL', leases)
for place = 1, #held, 2 do
  local slots, filled, ends = parse_lease(held[place + 1])
  local holder, tier, contact = string.match(held[place], '^([^:]*):([^:]*):(.*)$')
  if not slots or not sizes[tier] or is_lease_over(ends, confirmed, shown) then
    ended[#ended + 1] = held[place]
  elseif holder == request_id and contact == contact_id then
    granted[tier] = slots
  else
    bytes = bytes + slots * sizes[tier]
    if contact == contact_id then
      coming[tier] = (coming[tier] or 0) + slots - filled
    end
  end
end
local again = next(granted)
if not again and is_late(sent, shown) then
  return {UNKNOWN, shown}
end
if not again and #ended > 0 then
  -- Rehearsal: what can't be written is found out while nothing is.
  redis.call('HDEL', leases, '')
  redis.call('INCRBY', epoch, 1)
  for _, name in ipairs(ended) do
    redis.call('HDEL', leases, name)
  end
end
if not again and (redis.call('GET', epoch) or '0') ~= measured_epoch then
  return {STALE}
end
local reply, taken = {OK}, {}
for _, tier in ipairs(TIERS) do
  local size, cap = sizes[tier], caps[priority][tier]
  local count = redis.call('ZCARD', queues[tier]) + (coming[tier] or 0)
  local room = math.floor((budget - bytes) / size)
  local slots = again and (granted[tier] or 0)
    or math.max(math.min(wanted[tier], cap - count, room), 0)
  reply[#reply + 1] = {slots, count, cap, bytes}
  bytes = bytes + slots * size
  if slots > 0 then
    taken[#taken + 1] = request_id .. ':' .. tier .. ':' .. contact_id
    taken[#taken + 1] = format_lease(slots, 0,
      {confirmed + lease_ttl, shown + lease_ttl, lease_ttl})
  end
end
if not again and #taken > 0 then
  redis.call('HSET', leases, unpack(taken))
end
return reply
