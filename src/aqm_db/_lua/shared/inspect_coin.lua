-- Runs: EXISTS row
-- Uses: encode_id, find_expiry, read_coin
-- A queued coin and its row's name, or nil, its row's name and why it can't be handed out:
-- 'dangling' (there is no row), 'corrupt', or 'stale' (nobody may encrypt for it any more).
local function inspect_coin(row_prefix, id, tier, now, coin_ttl)
  local row = row_prefix .. encode_id(id)
  local coin = read_coin(row)
  local expires_at = coin and coin.coin_category == tier and find_expiry(coin, coin_ttl)
  if not expires_at then
    return nil, row, redis.call('EXISTS', row) == 0 and 'dangling' or 'corrupt'
  end
  if expires_at <= now then
    return nil, row, 'stale'
  end
  return coin, row
end
