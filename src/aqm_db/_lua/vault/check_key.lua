-- Looks at one private half and its entry in the expiry index, and mends them, if asked to.
-- KEYS: row, expiry
-- ARGV: key_id, whether it is a valid id (1 or 0), 'look' or 'repair', now (ms), ttl (ms),
--       grace (ms), by how much clocks may differ (ms)
-- Returns: {OK, kind, detail, repaired, kind, detail, repaired, ...}
--          The counters are left to vault_check_counters.
-- Again: what was mended is no problem any more.
-- Runs: ZSCORE expiry, HMGET row, PTTL row, ZADD expiry, ZREM expiry, HDEL row, PEXPIRE row
-- Uses: counters, typed, utf8, problems
local row, expiry, id = KEYS[1], KEYS[2], ARGV[1]
local named, repair, now, ttl = ARGV[2] == '1', ARGV[3] == 'repair', tonumber(ARGV[4]), ARGV[5] + 0

-- nil where the index has the wrong type: then nothing is said of entries.
local score = typed('ZSCORE', expiry, id)
local fields = typed('HMGET', row, 'status', 'coin_category', 'created_at', 'coin_version',
  'encrypted_blob', 'encryption_iv', 'auth_tag') or {}
local left = redis.call('PTTL', row)
local tier = active_tier(fields)
local entry, expire, erase = score, nil, false

local function look_at_active()
  if not tier or not integer(fields[3]) or not fields[4] or not is_utf8(fields[4])
    or not (fields[5] and fields[6] and fields[7]) then
    problem('corrupt_row', 'the row has the wrong type, or a field is missing or malformed')
  end
  if not tier then
    if score then
      problem('dangling_entry', 'the expiry index lists what is no active key', repair)
      entry = false
    end
    return
  end
  if left == -1 then
    problem('no_expiry', 'the row would stay for ever', repair)
    left = (integer(fields[3]) or now) + ttl - now
    -- Whoever stored it had another clock, or it is overdue: that is no reason to lose it now.
    if left <= 0 or left > ttl then
      left = ttl
    end
    expire = left
  end
  local listed = score and TIERS[tier_number(score)]
  if score == false then
    problem('orphaned_row', 'the expiry index does not list it', repair)
  elseif score and listed ~= tier then
    problem('misplaced_entry', 'the expiry index lists it under another tier', repair)
  end
  if score ~= nil and (expire or listed ~= tier) then
    entry = string.format('%.2f', now + left + QUARTER[tier])
  end
end

local function look_at_tombstone()
  if left == -1 then
    problem('no_expiry', 'the tombstone would stay for ever', repair)
    expire = ARGV[6]
  end
  if fields[5] or fields[6] or fields[7] then
    problem('kept_material', 'the tombstone holds what burning erases', repair)
    erase = true
  end
  if score then
    problem('dangling_entry', 'the expiry index lists a burned key', repair)
    entry = false
  end
end

if not named or left == -2 then
  -- What the server expired is listed until the counters are read, and clocks differ.
  if score and not (named and (tonumber(score) or math.huge) <= now + ARGV[7]) then
    problem('dangling_entry', 'the expiry index lists it, and there is no such key', repair)
    entry = false
  end
elseif fields[1] == 'BURNED' then
  look_at_tombstone()
else
  look_at_active()
end
if not repair then
  return found
end

-- Rehearsals: what can't be written is found out while nothing is.
if entry ~= score then
  redis.call('ZADD', expiry, 'XX', 0, '')
  redis.call('ZREM', expiry, '')
end
if erase then
  redis.call('HDEL', row, '')
end

if expire then
  redis.call('PEXPIRE', row, expire)
end
if erase then
  redis.call('HDEL', row, 'encrypted_blob', 'encryption_iv', 'auth_tag')
end
if entry and entry ~= score then
  redis.call('ZADD', expiry, entry, id)
elseif entry ~= score then
  redis.call('ZREM', expiry, id)
end
return found
