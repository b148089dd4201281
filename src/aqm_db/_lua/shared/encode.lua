-- An id as it stands in a key name; _keys.py does the same on the client.
local STRUCTURE = '[%%:{}*?%[%]\\%c]'

local function escaped(character)
  return string.format('%%%02X', string.byte(character))
end

local function encode(id)
  return string.find(id, STRUCTURE) and (string.gsub(id, STRUCTURE, escaped)) or id
end
