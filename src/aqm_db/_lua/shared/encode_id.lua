-- An id as it stands in a key name; _model/keys.py does the same on the client.
local STRUCTURE = '[%%:{}*?%[%]\\%c]'

local function encode_id(id)
  -- Most ids hold nothing but these, which are found faster.
  return string.find(id, '[^%w_-]') and (string.gsub(id, STRUCTURE, function(character)
    return string.format('%%%02X', string.byte(character))
  end)) or id
end
