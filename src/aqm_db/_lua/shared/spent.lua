-- Runs: ZSCORE spent, ZADD spent
-- What the vault remembers of private halves that are gone: a score is when one would have expired
-- by itself (ms) plus, as quarters, how it went. The server let it go ('gone', at its end unless
-- its clock jumped), we deleted it for its age ('purged'), or it was burned; the last one wins.
local FATES = {gone = 0, purged = 0.25, burned = 0.5}

-- How a private half went, and when its life would have ended (ms); nil if it isn't remembered.
local function recall_spent(spent, id)
  local score = tonumber(redis.call('ZSCORE', spent, id))
  if not score then
    return nil
  end
  local fate = 'gone'
  for name, quarters in pairs(FATES) do
    if quarters == score % 1 then
      fate = name
    end
  end
  return fate, math.floor(score)
end

-- Remembers one; what is known of it already is neither shortened nor called less.
local function note_spent(spent, id, fate, ends)
  local known, known_ends = recall_spent(spent, id)
  local quarters = math.max(FATES[fate], FATES[known] or 0)
  redis.call('ZADD', spent, string.format('%.2f', math.max(ends, known_ends or 0) + quarters), id)
end
