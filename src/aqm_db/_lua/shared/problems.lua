-- What a check found: the kind of each problem, one sentence, and whether it was mended (1 or 0).
local found = {OK}

local function problem(kind, detail, mended)
  found[#found + 1] = kind
  found[#found + 1] = detail
  found[#found + 1] = mended and 1 or 0
end
