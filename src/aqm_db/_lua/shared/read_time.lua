-- Runs: TIME
-- What the server's clock shows, in ms, as text and as a number: whatever is kept ends by it.
local function read_time()
  local time = redis.call('TIME')
  local shown = time[1] * 1000 + math.floor(time[2] / 1000)
  return string.format('%.0f', shown), shown
end
