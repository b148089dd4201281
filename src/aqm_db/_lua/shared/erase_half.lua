-- Runs: HSET row, HDEL row, PEXPIRE row, ZREM expiry, HSET stats
-- Uses: format_count, spent.note_spent
-- Burns an active private half that was looked at before: blob, iv and tag go, a tombstone stays for
-- a while, and the id is remembered. Of the counters, that of its tier and that of what was burned
-- follow, in the table too.
local function erase_half(row, stats, expiry, spent, id, ends, burned_by, grace, active, counters)
  redis.call('HSET', row, 'status', 'BURNED', 'burned_by', burned_by)
  redis.call('HDEL', row, 'encrypted_blob', 'encryption_iv', 'auth_tag')
  redis.call('PEXPIRE', row, grace)
  redis.call('ZREM', expiry, id)
  note_spent(spent, id, 'burned', ends)
  counters[active], counters.total_burned = counters[active] - 1, counters.total_burned + 1
  redis.call('HSET', stats, active, format_count(counters[active]),
    'total_burned', format_count(counters.total_burned))
end
