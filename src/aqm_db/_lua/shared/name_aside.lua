-- What is noted of a row that no queue lists: its contact and its id, as they stand in its name.
local function name_aside(row)
  return string.match(row, '[^:]*:[^:]*$')
end
