-- Runs: HMGET coming, HMGET totals
-- Uses: parse_integer
-- Some fields of a hash that are counts, 0 where there is none; nil if one is malformed.
local function read_counts(key, fields)
  local counts = {}
  if #fields > 0 then
    for place, text in ipairs(redis.call('HMGET', key, unpack(fields))) do
      counts[fields[place]] = parse_integer(text or '0')
      if not counts[fields[place]] then
        return nil
      end
    end
  end
  return counts
end
