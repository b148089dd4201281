#!/usr/bin/env bash
# Two packages' "kyber768" are different functions: pypqc's is ML-KEM-768, kyber-py's is round 3.
#
# Versions: pypqc 0.0.6.2, kyber-py 1.2.0, cryptography 50.0.2
# Date: 2026-11-27, with Python 3.11.7 on Linux
# Behaviour: pypqc's pqc.kem.kyber768 (of February 2024, before FIPS 203) agrees with cryptography's
#   ML-KEM-768 in both directions. kyber-py's Kyber768 has the same sizes, and everybody takes its
#   keys and ciphertexts, but the shared secrets differ, with no error anywhere.
# Output seen: whose shared secrets are equal; a row encapsulates, a column decapsulates
#   all keys have 1184 bytes, all ciphertexts 1088, and nobody raised an error
#   cryptography MLKEM768: cryptography MLKEM768, pypqc kyber768, kyber-py ML_KEM_768
#   pypqc kyber768: cryptography MLKEM768, pypqc kyber768, kyber-py ML_KEM_768
#   kyber-py ML_KEM_768: cryptography MLKEM768, pypqc kyber768, kyber-py ML_KEM_768
#   kyber-py Kyber768: kyber-py Kyber768

set -euo pipefail
script=$(realpath "$0")

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check \
  cryptography==50.0.2 \
  kyber-py==1.2.0 \
  pypqc==0.0.6.2

venv/bin/python - >seen <<'PYTHON'
import warnings

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from kyber_py.kyber import Kyber768
from kyber_py.ml_kem import ML_KEM_768

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # about patents
    from pqc.kem import kyber768

ours = MLKEM768PrivateKey.generate()
pypqc_public, pypqc_private = kyber768.keypair()
mlkem_public, mlkem_private = ML_KEM_768.keygen()
kyber_public, kyber_private = Kyber768.keygen()

# All four give the secret first, then the ciphertext.
sides = {
    "cryptography MLKEM768": (
        ours.public_key().public_bytes_raw(),
        lambda public: MLKEM768PublicKey.from_public_bytes(public).encapsulate(),
        ours.decapsulate,
    ),
    "pypqc kyber768": (
        pypqc_public,
        kyber768.encap,
        lambda ciphertext: kyber768.decap(ciphertext, pypqc_private),
    ),
    "kyber-py ML_KEM_768": (
        mlkem_public,
        ML_KEM_768.encaps,
        lambda ciphertext: ML_KEM_768.decaps(mlkem_private, ciphertext),
    ),
    "kyber-py Kyber768": (
        kyber_public,
        Kyber768.encaps,
        lambda ciphertext: Kyber768.decaps(kyber_private, ciphertext),
    ),
}
keys, ciphertexts, rows = set(), set(), []
for sender, (_, encapsulate, _) in sides.items():
    equal = []
    for receiver, (public, _, decapsulate) in sides.items():
        secret, ciphertext = encapsulate(public)
        keys.add(len(public))
        ciphertexts.add(len(ciphertext))
        if decapsulate(ciphertext) == secret:
            equal.append(receiver)
    rows.append(f"{sender}: {', '.join(equal)}")
assert (keys, ciphertexts) == ({1184}, {1088})
print("all keys have 1184 bytes, all ciphertexts 1088, and nobody raised an error")
print("\n".join(rows))
PYTHON

# What the header says must be what was seen.
cat seen
diff <(sed -n '/^# Output seen:/,/^$/s/^#   //p' "$script") seen
