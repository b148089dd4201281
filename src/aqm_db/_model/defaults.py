"""Where time and ids come from unless a constructor is given something else."""

import os
import time
from base64 import urlsafe_b64encode
from typing import Final

DAY_MS: Final = 86_400_000


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return int(time.time() * 1000)


def new_request_id() -> str:
    """96 random bits as 16 characters: what makes a call that is sent twice run once."""
    return urlsafe_b64encode(os.urandom(12)).decode()
