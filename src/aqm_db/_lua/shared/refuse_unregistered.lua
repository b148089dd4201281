-- Runs: EXISTS meta
-- The reply about a contact that has no priority: there is none of its name, or it is malformed.
-- The claim is named where replies have to be.
local function refuse_unregistered(meta, claim)
  return {redis.call('EXISTS', meta) == 1 and CORRUPT or NOT_REGISTERED, claim}
end
