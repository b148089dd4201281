-- Runs: ZSCORE used, ZSCORE used_until
-- Uses: try_call
-- Whether a coin is remembered as used; nil where the memory has the wrong type. Of contacts whose
-- coins outlive no use, there is no used_until.
local function recall_use(used, used_until, id, now, used_ttl)
  local used_at = try_call('ZSCORE', used, id)
  local ends = used_until and try_call('ZSCORE', used_until, id)
  if used_at == nil or ends == nil then
    return nil
  end
  return used_at and tonumber(used_at) > now - used_ttl or ends and tonumber(ends) > now
end
