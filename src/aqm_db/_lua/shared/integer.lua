-- A stored whole number, or nil for what is none, or has more digits than a script's numbers hold.
local function integer(text)
  return text and #text < 16 and string.match(text, '^%d+$') and tonumber(text)
end
