"""What is known without a server: tiers, key names, stored fields, arguments. No I/O.

``config.py`` and ``types.py`` hold what users see of it.
"""
