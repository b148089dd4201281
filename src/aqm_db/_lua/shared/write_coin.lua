-- Runs: HSET row
-- The one writer of a coin's row: the fields that read_coin reads, but for those that are nil.
local FIELDS = {'coin_category', 'public_key', 'signature', 'fetched_at', 'by', 'expires_at'}

local function write_coin(row, coin)
  local items = {}
  for _, field in ipairs(FIELDS) do
    if coin[field] then
      items[#items + 1] = field
      items[#items + 1] = coin[field]
    end
  end
  redis.call('HSET', row, unpack(items))
end
