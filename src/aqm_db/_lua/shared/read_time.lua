-- Runs: TIME
-- What the server's clock shows, in ms, as text and as a number: whatever is kept ends by it.
local function read_time()
  local time = redis.call('TIME')
  local text = string.format('%s%03d', time[1], math.floor(time[2] / 1000))
  return text, tonumber(text)
end
