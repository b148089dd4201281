#!/usr/bin/env bash
# hiredis-py takes the square of what it is fed at once, and libvalkey-py doesn't.
#
# Versions: hiredis-py 3.5.0, libvalkey-py 4.2.1
# Date: 2026-11-28, with Python 3.11.7 on Linux
# Behaviour: hiredis' gets() moves all that is left in the reader to the front of its buffer whenever
#   it has gone 1 KiB further. So 4 MiB of replies take far more than ten times as long at once as in
#   pieces of 16 KiB, and more than three times as long as 2 MiB. asyncio hands over up to 256 KiB at
#   a time; a reply of 4 KiB among these takes some three times as long as in pieces. libvalkey, which
#   was made of hiredis, takes as long for twice as much as one would think.
# Output seen:
#   hiredis-py, 4 MiB of replies at once and in pieces: more than 10 times as long
#   hiredis-py, 4 MiB and 2 MiB of replies at once: more than 3 times as long
#   libvalkey-py, 4 MiB of replies at once and in pieces: less than 10 times as long
#   libvalkey-py, 4 MiB and 2 MiB of replies at once: less than 3 times as long

set -euo pipefail
script=$(realpath "$0")

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check \
  hiredis==3.5.0 \
  libvalkey==4.2.1

venv/bin/python - >seen <<'PYTHON'
from time import process_time

import hiredis
import libvalkey

PIECE = 16 * 1024
REPLY = b"$4096\r\n" + b"x" * 4096 + b"\r\n"


def took(library, count, piece):
    """The least seconds of three times."""
    data, times = REPLY * count, []
    for _ in range(3):
        reader, replies, begin = library.Reader(), 0, process_time()
        for start in range(0, len(data), piece):
            reader.feed(data[start : start + piece])
            while reader.gets() is not False:
                replies += 1
        times.append(process_time() - begin)
        assert replies == count
    return min(times)


def tell(what, ratio, limit):
    """Whether something takes much longer than something else."""
    print(f"{what}: {'more' if ratio > limit else 'less'} than {limit} times as long")


for name, library in (("hiredis-py", hiredis), ("libvalkey-py", libvalkey)):
    whole = took(library, 1024, 2**30)
    tell(f"{name}, 4 MiB of replies at once and in pieces", whole / took(library, 1024, PIECE), 10)
    tell(f"{name}, 4 MiB and 2 MiB of replies at once", whole / took(library, 512, 2**30), 3)
PYTHON

# What the header says must be what was seen.
cat seen
diff <(sed -n '/^# Output seen:/,/^$/s/^#   //p' "$script") seen
