-- Looks at one claim, and lets it expire, if asked to.
-- KEYS: claim
-- ARGV: mode ('look' or 'repair'), claim_ttl (ms)
-- Returns: {OK, kind, detail, repaired} | {OK}
-- Again: the claim expires, so the second run finds nothing.
-- Runs: PTTL claim, PEXPIRE claim
-- Uses: note_problem
local reply = {OK}
if redis.call('PTTL', claim) == -1 then
  if mode == 'repair' then
    redis.call('PEXPIRE', claim, claim_ttl)
  end
  note_problem(reply, 'no_expiry', 'the claim would stay for ever', mode == 'repair')
end
return reply
