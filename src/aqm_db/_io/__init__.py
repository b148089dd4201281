"""How a call reaches a server, and what comes back.

The layers above see ``seam.py`` alone: six methods that run scripts, read, and walk. What becomes
of an error or a broken link is decided in ``failures.py``; ``answers.py`` makes of bare replies
what a seam promises, for any client library; ``confirming.py`` has changes wait for replicas and
disks, and ``gate.py`` lets a database be metered and closed. ``redispy`` is the one folder that
knows a client library: another one would stand beside it.
"""
