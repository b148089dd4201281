"""The seams over redis-py's clients, asynchronous and synchronous, of servers and of clusters.

redis-py makes and authenticates connections, and knows a cluster's topology. What is sent on them,
when it's repeated, and what it comes to is ours: pairs of files, ``async_...`` and ``sync_...``, do
the same for either face. ``replies.py`` turns redis-py's exceptions into values of ours, once, and
``private_parts.py`` lists whatever else it doesn't promise to keep.
"""
