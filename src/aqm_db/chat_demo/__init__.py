"""Two people who chat through a coin server that nobody trusts: what ``aqm-db chat-demo`` runs.

Written to be read, like :mod:`aqm_db.demo`, and with nothing but the public API. Three kinds of
processes take part:

- the server (``server.py``): hands out each coin once, and keeps messages until they are
  acknowledged. It has Mallory's help (``mallory.py``): some messages come altered, some twice;
- a party (``party.py``), Alice or Bob, each with an embedded database: mints and publishes
  (``publisher.py``), fetches and verifies coins (``purse.py``), sends (``sender.py``) and receives
  (``receiver.py``) over one link to the server (``link.py``);
- whoever starts them (``story.py``): kills a party in the middle, starts it again, and looks at
  what each has written down in the end (``findings.py``).

No message is lost or read twice, and no coin is used twice, since each step is written down before
the next one begins, and each may be done again:

=========================== ====================================================================
killed after                what happens when it's started again
=========================== ====================================================================
minting, before publishing  the same coins are published; the server takes each id once
coins were claimed          they are nobody's, and expire; others are fetched past their slots
a coin was selected         it's spent for nothing; the message takes another
the outbox was written      the same ciphertext is sent again: no second coin
the message was logged      it's delivered again; its id is known, so its key is just burned
the key was burned          it's delivered again, and acknowledged
=========================== ====================================================================
"""
