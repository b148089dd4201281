-- An id as it stands in a key name; _keys.py does the same on the client.
local function encode(id)
  return (string.gsub(id, '[%%:{}*?%[%]\\%c]', function(character)
    return string.format('%%%02X', string.byte(character))
  end))
end
