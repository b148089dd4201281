-- Runs: ZREM used, ZREM used_until
-- Forgets the use of a coin that was released since: it was not used after all. An empty id is a
-- rehearsal.
local function drop_use(used, used_until, id)
  redis.call('ZREM', used, id)
  redis.call('ZREM', used_until, id)
end
