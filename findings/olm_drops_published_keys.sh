#!/usr/bin/env bash
# libolm silently drops published one-time keys when more than 100 are made; vodozemac keeps 5,000.
#
# Versions: python-olm 3.2.16 (libolm 3.2.16), vodozemac 0.10.0 (the Python binding)
# Date: 2026-11-27, with Python 3.11.7 on Linux
# Behaviour: an account's "maximum" means two things. In libolm (100) it's what the account holds at
#   all: making more throws the oldest private halves away, published or not, without a word, and
#   whoever claimed one of them writes what can't be read. In vodozemac (50) it's a recommendation
#   for how many to publish; the account holds 5,000, and then does the same. So topping up without
#   counting what's still claimed loses messages in the one, and hardly ever in the other.
# Output seen:
#   libolm: maximum 100, 150 made at once: 100
#     a published key is usable after 99 more: yes
#     a published key is usable after 100 more: no, BAD_MESSAGE_KEY_ID
#   vodozemac: maximum 50, 150 made at once: 150
#     a published key is usable after 4999 more: yes
#     a published key is usable after 5000 more: no, SessionCreationException

set -euo pipefail
script=$(realpath "$0")

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check \
  python-olm==3.2.16 \
  vodozemac==0.10.0

venv/bin/python - >seen <<'PYTHON'
import olm
import vodozemac


def libolm_usable(more):
    bob, alice = olm.Account(), olm.Account()
    bob.generate_one_time_keys(1)
    [key] = bob.one_time_keys["curve25519"].values()
    bob.mark_keys_as_published()
    bob.generate_one_time_keys(more)
    session = olm.OutboundSession(alice, bob.identity_keys["curve25519"], key)
    message = session.encrypt("hello")
    try:
        assert olm.InboundSession(bob, message).decrypt(message) == "hello"
    except olm.OlmSessionError as error:
        return f"no, {error}"
    return "yes"


def vodozemac_usable(more):
    bob, alice = vodozemac.Account(), vodozemac.Account()
    bob.generate_one_time_keys(1)
    [key] = bob.one_time_keys.values()
    bob.mark_keys_as_published()
    bob.generate_one_time_keys(more)
    session = alice.create_outbound_session(bob.curve25519_key, key)
    message = session.encrypt(b"hello").to_pre_key()
    try:
        _, text = bob.create_inbound_session(alice.curve25519_key, message)
        assert text == b"hello"
    except vodozemac.SessionCreationException as error:
        return f"no, {type(error).__name__}"
    return "yes"


account = olm.Account()
account.generate_one_time_keys(150)
made = len(account.one_time_keys["curve25519"])
print(f"libolm: maximum {account.max_one_time_keys}, 150 made at once: {made}")
for more in (99, 100):
    print(f"  a published key is usable after {more} more: {libolm_usable(more)}")

account = vodozemac.Account()
account.generate_one_time_keys(150)
made = len(account.one_time_keys)
print(f"vodozemac: maximum {account.max_number_of_one_time_keys}, 150 made at once: {made}")
for more in (4999, 5000):
    print(f"  a published key is usable after {more} more: {vodozemac_usable(more)}")
PYTHON

# What the header says must be what was seen.
cat seen
diff <(sed -n '/^# Output seen:/,/^$/s/^#   //p' "$script") seen
