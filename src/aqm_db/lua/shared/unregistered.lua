-- Runs: EXISTS meta
-- The reply about a contact that has no priority: there is none of its name, or it is malformed.
local function unregistered(meta)
  return {redis.call('EXISTS', meta) == 1 and CORRUPT or NOT_REGISTERED}
end
