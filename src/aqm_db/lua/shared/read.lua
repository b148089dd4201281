-- A read that takes a key of the wrong type for one without content. Every other failure ends the
-- script: what an ACL hides is not corrupt.
local function read(...)
  local reply = redis.pcall(...)
  if type(reply) == 'table' and reply.err then
    if not string.find(reply.err, 'WRONGTYPE', 1, true) then
      error(reply.err)
    end
    return nil
  end
  return reply
end
