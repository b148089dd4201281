-- Counts coins of some contacts that are stale in some time; it looks at so many at most.
-- KEYS: metas ...
-- ARGV: clock (ms), meta_prefix, row_prefix, queue_prefix, within (ms), coin_ttl (ms), most (count)
-- ARGV: first (count), place (count)
--       prefixes: of all contacts' keys; first, place: the tier's number and the place in
--       its queue from which on the first contact is looked at.
-- Returns: {OK, contacts, first, place, the stale coins of each tier, ...}
--          contacts: how many were looked at to the end; first, place: where it goes on in the next
--          the coins: of each of them, and of the next up to there; -1 if a queue has the wrong type
-- Again: it only reads.
-- Runs: ZRANGE queues
-- Uses: inspect_coin, read_time, try_call
local at = (clock or read_time()) + within
local reply, left = {OK, 0, 1, 0}, most

-- Adds one contact's counts; returns whether all of its coins were looked at.
local function count(contact)
  local rows, queue = row_prefix .. contact .. ':', queue_prefix .. contact .. ':'
  local counts, unseen = {}, nil
  for number, tier in ipairs(TIERS) do
    counts[number] = 0
    if number >= first and not unseen then
      -- One more, to see whether there are more.
      local found = try_call('ZRANGE', queue .. tier, place, place + left)
      for position, id in ipairs(found or {}) do
        if left == 0 then
          unseen = {number, place + position - 1}
          break
        end
        local _, _, fault = inspect_coin(rows, id, tier, at, coin_ttl)
        counts[number] = counts[number] + (fault == 'stale' and 1 or 0)
        left = left - 1
      end
      counts[number] = found and counts[number] or -1
      place = 0
    end
  end
  for _, stale in ipairs(counts) do
    reply[#reply + 1] = stale
  end
  if unseen then
    reply[3], reply[4] = unseen[1], unseen[2]
  end
  return not unseen
end

for _, meta in ipairs(metas) do
  if not count(string.sub(meta, #meta_prefix + 1)) then
    break
  end
  reply[2] = reply[2] + 1
  first = 1
end
return reply
