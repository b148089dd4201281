-- Runs: ZSCORE expiry
-- Uses: spent.recall_spent
-- What is said of an id that has no row: BURNED, EXPIRED, or NOT_FOUND if nobody remembers it.
local function name_spent(spent, expiry, id)
  local fate = recall_spent(spent, id)
  if fate == 'burned' then
    return BURNED
  end
  -- What the server expired stands in the index until somebody looks.
  return (fate or redis.call('ZSCORE', expiry, id)) and EXPIRED or NOT_FOUND
end
