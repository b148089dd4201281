-- Runs: TIME
-- What the server's clock shows, in ms: whatever is kept ends by it.
local function read_time()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
