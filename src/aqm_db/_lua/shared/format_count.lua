-- A counter's text, never below zero: a row that was written by hand was not counted.
local function format_count(value)
  return string.format('%.0f', math.max(value, 0))
end
