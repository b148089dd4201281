-- Reserves slots for coins of one contact that are on their way: as many as are wanted, and the caps
-- and the byte budget leave beside all other leases.
-- KEYS: leases, epoch, meta, idx GOLD, idx SILVER, idx BRONZE
-- ARGV: request_id, contact_id, now (ms), lease ttl (ms), budget (bytes), bytes measured, epoch that
--       they were measured in, and for GOLD, SILVER and BRONZE each: slots wanted, coin size
--       (bytes), cap BESTIE, cap MATE, cap STRANGER
-- Returns: {OK, {slots, count, cap, bytes}, ...} with the counts before, for GOLD, SILVER and BRONZE
--          | {STALE} | {NOT_REGISTERED} | {CORRUPT}
-- Again: the leases remember the request that took them.
-- Runs: HGET meta, HGETALL leases, HDEL leases, HSET leases, GET epoch, INCRBY epoch, ZCARD idx
-- Uses: integer, lease, unregistered
local leases, epoch, meta = KEYS[1], KEYS[2], KEYS[3]
local request_id, contact_id, now = ARGV[1], ARGV[2], tonumber(ARGV[3])
local TIERS = {'GOLD', 'SILVER', 'BRONZE'}
local FIRST, EACH = {GOLD = 8, SILVER = 13, BRONZE = 18}, {BESTIE = 2, MATE = 3, STRANGER = 4}

local priority = redis.call('HGET', meta, 'priority')
if not priority then
  return unregistered(meta)
end
if not EACH[priority] then
  return {CORRUPT}
end
if not integer(redis.call('GET', epoch) or '0') then
  return {CORRUPT}
end
-- A coin that was stored under a lease may have been measured or not, so a lease takes all of its
-- bytes until it ends.
local bytes, coming, granted, over = tonumber(ARGV[6]), {}, {}, {}
local held = redis.call('HGETALL', leases)
for position = 1, #held, 2 do
  local slots, filled, ends = lease(held[position + 1])
  local holder, tier, contact = string.match(held[position], '^([^:]*):(%u+):(.*)$')
  if not slots or not FIRST[tier] or ends <= now then
    over[#over + 1] = held[position]
  elseif holder == request_id and contact == contact_id then
    granted[tier] = slots
  else
    bytes = bytes + slots * ARGV[FIRST[tier] + 1]
    if contact == contact_id then
      coming[tier] = (coming[tier] or 0) + slots - filled
    end
  end
end
local again = next(granted)
if not again and #over > 0 then
  -- Rehearsal: what can't be written is found out while nothing is.
  redis.call('HDEL', leases, '')
  redis.call('INCRBY', epoch, 1)
  for _, lease_over in ipairs(over) do
    redis.call('HDEL', leases, lease_over)
  end
end
if not again and (redis.call('GET', epoch) or '0') ~= ARGV[7] then
  return {STALE}
end
local reply, taken = {OK}, {}
for number, tier in ipairs(TIERS) do
  local wanted, size = tonumber(ARGV[FIRST[tier]]), tonumber(ARGV[FIRST[tier] + 1])
  local cap = tonumber(ARGV[FIRST[tier] + EACH[priority]])
  local count = redis.call('ZCARD', KEYS[number + 3]) + (coming[tier] or 0)
  local room = math.floor((ARGV[5] - bytes) / size)
  local slots = again and (granted[tier] or 0) or math.max(math.min(wanted, cap - count, room), 0)
  reply[number + 1] = {slots, count, cap, bytes}
  bytes = bytes + slots * size
  if slots > 0 then
    taken[#taken + 1] = request_id .. ':' .. tier .. ':' .. contact_id
    taken[#taken + 1] = lease_of(slots, 0, now + ARGV[4])
  end
end
if not again and #taken > 0 then
  redis.call('HSET', leases, unpack(taken))
end
return reply
