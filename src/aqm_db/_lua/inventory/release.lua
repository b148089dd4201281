-- Puts a coin that was selected and not used back at the head of its queue.
-- KEYS: row, meta, used, claim, idx
-- ARGV: key_id, coin_category, public_key, signature, fetched_at (ms), expires_at (ms or ''),
--       used_at (ms), now (ms), coin ttl (ms), claim ttl (ms), cap BESTIE, cap MATE, cap STRANGER
-- Returns: {OK, released}
-- Again: the claim says that the request released.
-- Runs: EXISTS claim, SET claim, ZSCORE used, EXISTS row, HSET row, HGET meta, ZRANGE idx, ZADD idx
local row, meta, used, queue = KEYS[1], KEYS[2], KEYS[3], KEYS[5]

if redis.call('EXISTS', KEYS[4]) == 1 then
  return {OK, 1}
end
-- Each use has a receipt of its own: a coin that was released, and then taken by another caller,
-- can't be released by the first one again.
local used_at = redis.call('ZSCORE', used, ARGV[1])
if not used_at or tonumber(used_at) ~= tonumber(ARGV[7])
  or redis.call('EXISTS', row) == 1 then
  return {OK, 0}
end
local caps = {BESTIE = ARGV[11], MATE = ARGV[12], STRANGER = ARGV[13]}
local cap = tonumber(caps[redis.call('HGET', meta, 'priority')])
local expires_at = tonumber(ARGV[6]) or ARGV[5] + ARGV[9]
if not cap or cap == 0 or expires_at <= tonumber(ARGV[8]) then
  return {OK, 0}
end
local head = redis.call('ZRANGE', queue, 0, 0, 'WITHSCORES')[2]
local score = math.min(tonumber(ARGV[5]), (tonumber(head) or math.huge) - 1)
-- Rehearsals: what can't be written is found out while nothing is.
redis.call('ZADD', queue, 'XX', 0, '')
redis.call('SET', KEYS[4], '', 'PX', 1, 'XX')

local fields = {'coin_category', ARGV[2], 'public_key', ARGV[3], 'signature', ARGV[4],
  'fetched_at', ARGV[5]}
if ARGV[6] ~= '' then
  fields[9], fields[10] = 'expires_at', ARGV[6]
end
redis.call('HSET', row, unpack(fields))
redis.call('ZADD', queue, string.format('%.0f', score), ARGV[1])
redis.call('SET', KEYS[4], '', 'PX', ARGV[10])
return {OK, 1}
