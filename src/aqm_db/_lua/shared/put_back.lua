-- Runs: PEXPIRE claim, HDEL claim, RENAMENX claim row, DEL claim
-- Makes a claim the coin's row again, since what has to follow couldn't be written. The claim of the
-- request that stored the coin goes, too.
local function put_back(claim, row, coin_ttl, stored_claim)
  -- Stale by the time that this expiry comes, if the one of a claim was set.
  redis.pcall('PEXPIRE', claim, coin_ttl)
  redis.pcall('HDEL', claim, 'key_id', 'receipt')
  redis.call('RENAMENX', claim, row)
  redis.pcall('DEL', stored_claim)
end
