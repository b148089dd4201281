"""The Lua scripts, which are the operations on the server, and what loads them.

A folder is what its scripts are about; ``shared`` has what several of them use, each file named as
what it defines. A script's header is its contract: ``header.py`` says what it looks like.
"""
