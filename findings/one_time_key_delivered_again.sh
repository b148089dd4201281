#!/usr/bin/env bash
# Whether a first message that arrives twice opens a session twice: four classes, three answers.
#
# Versions: python-olm 3.2.16 (libolm 3.2.16), vodozemac 0.10.0 (the Python binding), X3DH 1.3.0
# Date: 2026-11-27, with Python 3.11.7 on Linux
# Behaviour: all four take one-time keys, and use them up at different moments. libolm only when the
#   caller says so (remove_one_time_keys): until then the message opens one session after another.
#   vodozemac with the first message that it could decrypt. x3dh.State already with the key agreement,
#   before anything was decrypted: who stored the state and crashed in between can't read the message
#   when it's delivered again. x3dh.BaseState never by itself.
# Output seen: the same first message, three times
#   libolm: opened, opened, opened; after remove_one_time_keys: BAD_MESSAGE_KEY_ID
#   vodozemac: opened, SessionCreationException, SessionCreationException
#   x3dh.State: agreed, KeyAgreementException, KeyAgreementException
#   x3dh.BaseState: agreed, agreed, agreed; after delete_pre_key: KeyAgreementException

set -euo pipefail
script=$(realpath "$0")

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check \
  python-olm==3.2.16 \
  vodozemac==0.10.0 \
  X3DH==1.3.0 \
  XEdDSA==1.2.0

venv/bin/python - >seen <<'PYTHON'
import asyncio

import olm
import vodozemac
import x3dh

bob, alice = olm.Account(), olm.Account()
bob.generate_one_time_keys(1)
[key] = bob.one_time_keys["curve25519"].values()
bob.mark_keys_as_published()
outgoing = olm.OutboundSession(alice, bob.identity_keys["curve25519"], key)
message = outgoing.encrypt("hello")


def libolm_opens():
    try:
        incoming = olm.InboundSession(bob, message)
    except olm.OlmSessionError as error:
        return str(error)
    assert incoming.decrypt(message) == "hello"
    return "opened"


answers = ", ".join(libolm_opens() for _ in range(3))
bob.remove_one_time_keys(olm.InboundSession(bob, message))
print(f"libolm: {answers}; after remove_one_time_keys: {libolm_opens()}")

bob, alice = vodozemac.Account(), vodozemac.Account()
bob.generate_one_time_keys(1)
[key] = bob.one_time_keys.values()
bob.mark_keys_as_published()
session = alice.create_outbound_session(bob.curve25519_key, key)
first = session.encrypt(b"hello").to_pre_key()


def vodozemac_opens():
    try:
        _, text = bob.create_inbound_session(alice.curve25519_key, first)
    except vodozemac.SessionCreationException as error:
        return type(error).__name__
    assert text == b"hello"
    return "opened"


print(f"vodozemac: {', '.join(vodozemac_opens() for _ in range(3))}")


class State(x3dh.State):
    def _publish_bundle(self, bundle):
        pass

    @staticmethod
    def _encode_public_key(key_format, pub):
        return pub


class BaseState(x3dh.BaseState):
    @staticmethod
    def _encode_public_key(key_format, pub):
        return pub


async def x3dh_agrees(state, header, secret):
    try:
        found, *_ = await state.get_shared_secret_passive(header)
    except x3dh.KeyAgreementException as error:
        return type(error).__name__
    assert found == secret
    return "agreed"


async def main():
    options = (x3dh.IdentityKeyFormat.ED_25519, x3dh.HashFunction.SHA_256, b"example")
    alice = BaseState.create(*options)

    bob = State.create(*options)
    secret, _, header = await alice.get_shared_secret_active(bob.bundle)
    answers = [await x3dh_agrees(bob, header, secret) for _ in range(3)]
    print(f"x3dh.State: {', '.join(answers)}")

    bob = BaseState.create(*options)
    bob.generate_pre_keys(1)
    secret, _, header = await alice.get_shared_secret_active(bob.bundle)
    answers = [await x3dh_agrees(bob, header, secret) for _ in range(3)]
    bob.delete_pre_key(header.pre_key)
    later = await x3dh_agrees(bob, header, secret)
    print(f"x3dh.BaseState: {', '.join(answers)}; after delete_pre_key: {later}")


asyncio.run(main())
PYTHON

# What the header says must be what was seen.
cat seen
diff <(sed -n '/^# Output seen:/,/^$/s/^#   //p' "$script") seen
