-- Begins a round over all owners, or joins the one that is under way.
-- KEYS: round
-- ARGV: clock (ms), every (ms), abandoned (ms)
--       every: no round begins sooner after another one has begun.
--       abandoned: who hasn't told for so long how far a round is isn't at it any more.
-- Returns: {OK, is_due, began}
-- Again: the round that it has begun is under way.
-- Runs: HGETALL round, HSET round, HDEL round
-- Uses: count_owners, format_count, parse_integer, read_time
local now = clock or read_time()
local fields = redis.call('HGETALL', round)
local known, told, handled = {}, {}, 0
for place = 1, #fields, 2 do
  local name, value = fields[place], fields[place + 1]
  known[name] = parse_integer(value)
  if string.sub(name, 1, 3) == 'by:' then
    told[#told + 1] = name
    handled = handled + count_owners(value)
  end
end
local began, ended, seen = known.began, known.ended, known.seen
if began and now >= began then
  if now - began < every then
    return {OK, ended and 0 or 1, format_count(began)}
  end
  if not ended and seen and now - seen < abandoned then
    return {OK, 1, format_count(began)}
  end
end
-- Rehearsed: what can't be written is found out while nothing is; and a full server takes the rest.
redis.call('HDEL', round, '')
local expected = ended and handled or known.expected or 0
-- Turns tell an earlier round from a later one by this number.
local new = began and math.max(now, began + 1) or now
redis.call('HSET', round, 'began', format_count(new), 'seen', format_count(now),
  'expected', format_count(expected))
redis.call('HDEL', round, 'ended')
-- One by one: there may be more than fit into a call.
for _, name in ipairs(told) do
  redis.call('HDEL', round, name)
end
return {OK, 1, format_count(new)}
