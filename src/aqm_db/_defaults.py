"""Where time and ids come from unless a constructor is given something else."""

import os
import time


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return int(time.time() * 1000)


def new_request_id() -> str:
    """128 random bits in hex: what makes a call that is sent twice run once."""
    return os.urandom(16).hex()
