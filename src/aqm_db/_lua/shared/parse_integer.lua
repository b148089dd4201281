-- A stored whole number, or nil for what is none, or has more digits than a script's numbers hold.
local function parse_integer(text)
  return text and #text < 16 and string.find(text, '^%d+$') and tonumber(text)
end
