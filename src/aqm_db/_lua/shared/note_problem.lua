-- Adds a problem to the reply of a check: its kind, one sentence, and whether it was mended (1 or
-- 0).
local function note_problem(reply, kind, detail, mended)
  reply[#reply + 1] = kind
  reply[#reply + 1] = detail
  reply[#reply + 1] = mended and 1 or 0
end
