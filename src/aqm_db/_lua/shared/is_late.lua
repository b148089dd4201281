-- Whether a request was sent so long ago, by the server's clock, that its trace may be gone if it
-- was executed before; or it isn't known when, or the clock has stepped since.
local function is_late(sent, shown)
  return not sent or shown - sent >= LATE or sent - shown > CLOCK_SLACK
end
