-- Runs a command; one that finds a key of the wrong type gives nil. Every other failure ends the
-- script: what an ACL hides is not corrupt.
local function try_call(...)
  local reply = redis.pcall(...)
  if type(reply) == 'table' and reply.err then
    local failure = tostring(reply.err)
    if not string.find(failure, 'WRONGTYPE', 1, true) then
      error(failure)
    end
    return nil
  end
  return reply
end
