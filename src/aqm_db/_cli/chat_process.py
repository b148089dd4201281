"""A process of the chat demo, as ``aqm-db chat-demo`` starts it.

The terminal of whoever started the demo shows what it writes to stderr, tracebacks included.
"""

import sys

from aqm_db.chat_demo.__main__ import main

from .escaping import escape_stderr

escape_stderr()
main(sys.argv[1:])
