-- Runs: PEXPIRE used, PEXPIRE used_until, ZREVRANGE used_until
-- Gives the memory of used coins an end, since nobody looks after what is left of a contact that is
-- not registered: when the last of them can't be used any more.
local function limit_memory(used, used_until, now, used_ttl)
  redis.call('PEXPIRE', used, used_ttl)
  local last = redis.call('ZREVRANGE', used_until, 0, 0, 'WITHSCORES')[2]
  if last then
    redis.call('PEXPIRE', used_until, string.format('%.0f', tonumber(last) - now))
  end
end
