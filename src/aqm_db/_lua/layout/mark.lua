-- Marks a database as one whose indexes are whole.
-- KEYS: schema
-- ARGV: version (count)
-- Returns: {OK}
-- Again: it has the mark; a later one stays.
-- Runs: GET schema, SET schema
-- Uses: parse_integer
local present = parse_integer(redis.call('GET', schema))
if not present or present < version then
  redis.call('SET', schema, version)
end
return {OK}
