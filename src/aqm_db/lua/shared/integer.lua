-- A stored whole number, or nil for what is none.
local function integer(text)
  return text and string.match(text, '^%d+$') and tonumber(text)
end
