-- Uses: parse_integer
-- When a coin is stale (ms); nil if a field of its row is missing or malformed.
local function find_expiry(coin, coin_ttl)
  local fetched_at = parse_integer(coin.fetched_at)
  if not coin.public_key or not coin.signature or not fetched_at then
    return nil
  end
  if coin.expires_at then
    return parse_integer(coin.expires_at)
  end
  return fetched_at + coin_ttl
end
