"""The commands of ``aqm-db``: each in a module of its name, what they share beside them."""
