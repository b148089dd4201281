-- Says why there is no private half of an id.
-- KEYS: row, expiry, spent
-- ARGV: key_id
-- Returns: {NOT_FOUND} | {BURNED} | {EXPIRED} | {OK} if there is one by now
-- Again: it only reads.
-- Runs: EXISTS row
-- Uses: name_spent
return {redis.call('EXISTS', row) == 1 and OK or name_spent(spent, expiry, key_id)}
