"""``python -m aqm_db``."""

from .cli import main

main()
