-- Runs: PTTL turn
-- Whether somebody has the turn: one without an end would be theirs for ever, who may be gone.
local function has_turn(present, turn)
  return present and redis.call('PTTL', turn) ~= -1
end
