-- Looks at one claim, and lets it expire, if asked to.
-- KEYS: claim
-- ARGV: 'look' or 'repair', claim ttl (ms)
-- Returns: {OK, kind, detail, repaired} | {OK}
-- Again: the claim expires, so the second run finds nothing.
-- Runs: PTTL claim, PEXPIRE claim
-- Uses: problems
if redis.call('PTTL', KEYS[1]) == -1 then
  local repair = ARGV[1] == 'repair'
  if repair then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
  end
  problem('no_expiry', 'the claim would stay for ever', repair)
end
return found
