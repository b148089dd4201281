-- Runs: HMGET stats
-- Uses: parse_integer
-- Counters of the vault by the names of their fields, 0 where there is none; nil if one of them is
-- no counter. They are checked here, where HINCRBY would fail after the first write.
local function read_counters(stats, fields)
  local counters = {}
  for place, text in ipairs(redis.call('HMGET', stats, unpack(fields))) do
    counters[fields[place]] = parse_integer(text or '0')
    if not counters[fields[place]] then
      return nil
    end
  end
  return counters
end
