-- How many owners a program is done with, as it has noted: those that it has cared for, and the others.
local function count_owners(noted)
  local cared, failed = string.match(noted or '', '^(%d+) (%d+)$')
  return (tonumber(cared) or 0) + (tonumber(failed) or 0)
end
