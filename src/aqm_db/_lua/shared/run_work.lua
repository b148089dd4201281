-- Uses: try_call
-- What some work comes to that is given what runs its commands. To try each takes a third more, so
-- that they are tried only where one has failed.
local function run_work(work)
  local is_sound, reply = pcall(work, redis.call)
  return is_sound and reply or work(try_call)
end
