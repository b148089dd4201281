-- Runs: ZRANGEBYLEX aside
-- Uses: name_aside
-- The names of a contact's rows that are noted as listed by no queue: so many, from a place on.
local function list_aside(aside, row_prefix, place, most)
  local first = name_aside(row_prefix)
  local contact = string.sub(first, 1, -2)
  local rows = {}
  for _, noted in ipairs(redis.call('ZRANGEBYLEX', aside, '[' .. first, '(' .. contact .. ';',
    'LIMIT', place, most)) do
    rows[#rows + 1] = row_prefix .. string.sub(noted, #first + 1)
  end
  return rows
end
