-- Runs: PEXPIRE turn, SET turn
-- Gives somebody the turn for a while. A full server takes that, too, after what takes no room: who
-- has the turn makes some.
local function set_turn(turn, value, ttl)
  redis.call('PEXPIRE', turn, ttl)
  redis.call('SET', turn, value, 'PX', ttl)
end
