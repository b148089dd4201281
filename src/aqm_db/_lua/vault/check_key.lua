-- Looks at one private half and its entry in the expiry index, and mends them, if asked to.
-- KEYS: row, expiry, spent
-- ARGV: clock (ms), key_id, valid ('1' or '0'), mode ('look' or 'repair'), ttl (ms), grace (ms)
--       valid: whether a key may have the id.
-- Returns: {OK, kind, detail, repaired, kind, detail, repaired, ...}
--          The counters are left to vault_check_counters.
-- Again: what was mended is no problem any more.
-- Runs: ZSCORE expiry, HMGET row, PTTL row, ZADD expiry, ZREM expiry, HDEL row, PEXPIRE row
-- Runs: ZSCORE spent, ZADD spent
-- Uses: expiry_score.format_score, expiry_score.read_tier, find_active_tier, is_utf8, note_problem
-- Uses: parse_integer, read_time, spent.note_spent, try_call
-- Earlier versions listed a key by its client's clock.
local AGREEMENT = 60000
local repair, reply = mode == 'repair', {OK}
local shown = read_time()
local now = clock or shown

-- nil where the index has the wrong type: then nothing is said of entries.
local score = try_call('ZSCORE', expiry, key_id)
local fields = try_call('HMGET', row, 'status', 'coin_category', 'created_at', 'coin_version',
  'encrypted_blob', 'encryption_iv', 'auth_tag') or {}
local left = redis.call('PTTL', row)
local tier = find_active_tier(fields)
local entry, expire, erase, lost = score, nil, false, false

local function look_at_active()
  if not tier or not parse_integer(fields[3]) or not fields[4] or not is_utf8(fields[4])
    or not (fields[5] and fields[6] and fields[7]) then
    note_problem(reply, 'corrupt_row',
      'the row has the wrong type, or a field is missing or malformed')
  end
  if not tier then
    if score then
      note_problem(reply, 'dangling_entry', 'the expiry index lists what is no active key', repair)
      entry = false
    end
    return
  end
  if left == -1 then
    note_problem(reply, 'no_expiry', 'the row would stay for ever', repair)
    left = (parse_integer(fields[3]) or now) + ttl - now
    -- Whoever stored it had another clock, or it is overdue: that is no reason to lose it now.
    if left <= 0 or left > ttl then
      left = ttl
    end
    expire = left
  end
  local listed = score and read_tier(score)
  if score == false then
    note_problem(reply, 'orphaned_row', 'the expiry index does not list it', repair)
  elseif score and listed ~= tier then
    note_problem(reply, 'misplaced_entry', 'the expiry index lists it under another tier', repair)
  end
  local agrees = score and math.abs(tonumber(score) - shown - left) <= AGREEMENT
  if score and listed == tier and not (agrees or expire) then
    note_problem(reply, 'misplaced_entry', 'the expiry index lists it under another time', repair)
  end
  if score ~= nil and not (agrees and listed == tier) then
    entry = format_score(shown + left, tier)
  end
end

local function look_at_tombstone()
  if left == -1 then
    note_problem(reply, 'no_expiry', 'the tombstone would stay for ever', repair)
    expire = grace
  end
  if fields[5] or fields[6] or fields[7] then
    note_problem(reply, 'kept_material', 'the tombstone holds what burning erases', repair)
    erase = true
  end
  if score then
    note_problem(reply, 'dangling_entry', 'the expiry index lists a burned key', repair)
    entry = false
  end
end

if valid ~= '1' or left == -2 then
  -- What the server expired is listed until the counters are read.
  if score and not (valid == '1' and (tonumber(score) or math.huge) <= shown) then
    note_problem(reply, 'dangling_entry',
      'the expiry index lists it, and there is no such key', repair)
    entry, lost = false, valid == '1' and try_call('ZSCORE', spent, key_id) ~= nil
  end
elseif fields[1] == 'BURNED' then
  look_at_tombstone()
else
  look_at_active()
end
if not repair then
  return reply
end

-- Rehearsals: what can't be written is found out while nothing is.
if entry ~= score then
  redis.call('ZADD', expiry, 'XX', 0, '')
  redis.call('ZREM', expiry, '')
end
if erase then
  redis.call('HDEL', row, '')
end
if lost then
  redis.call('ZADD', spent, 'XX', 0, '')
end

if expire then
  redis.call('PEXPIRE', row, expire)
end
if lost then
  -- It was there once, so it's expired rather than unknown.
  note_spent(spent, key_id, 'gone', math.floor(tonumber(score)) - shown + now)
end
if erase then
  redis.call('HDEL', row, 'encrypted_blob', 'encryption_iv', 'auth_tag')
end
if entry and entry ~= score then
  redis.call('ZADD', expiry, entry, key_id)
elseif entry ~= score then
  redis.call('ZREM', expiry, key_id)
end
return reply
