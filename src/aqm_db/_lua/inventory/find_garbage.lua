-- Which of some contacts may have something to collect; it looks at so many coins at most.
-- KEYS: aside, metas ...
-- ARGV: clock (ms), meta_prefix, used_prefix, used_until_prefix, queue_prefix, row_prefix
-- ARGV: coin_ttl (ms), inactive (ms), used_ttl (ms), most (count)
--       prefixes: of all contacts' keys; inactive: as of collect.
-- Returns: {OK, contacts, place, ...}
--          contacts: how many were looked at; places: in the list, of those that may have something
-- Again: it only reads.
-- Uses: may_have_garbage, read_time, run_work
-- Whoever collects knows whether the clock has jumped, and takes note of what it shows.
local now = clock or read_time()

-- All of them, with what runs a command.
local function find(call)
  local about = {meta = meta_prefix, used = used_prefix, used_until = used_until_prefix,
    queue = queue_prefix, row = row_prefix, now = now, inactive = inactive, used_ttl = used_ttl,
    coin_ttl = coin_ttl, call = call}
  local reply, left = {OK, 0}, most
  for place, meta in ipairs(metas) do
    local found
    found, left = may_have_garbage(string.sub(meta, #meta_prefix + 1), aside, left, about)
    if found == nil and place > 1 then
      break
    end
    if found ~= false then
      reply[#reply + 1] = place - 1
    end
    reply[2] = place
    if found == nil then
      break
    end
  end
  return reply
end

return run_work(find)
