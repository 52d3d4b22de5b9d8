"""Needles, passkeys, RULER and the table of strategies: one runner, every strategy, any length.

Read it in this order: ``cases.py`` (what is asked about what), ``haystack.py`` (text of a wanted number of tokens), one file a task
(``needle.py``, ``passkey.py``, ``many_needles.py``, ``citation.py``, ``ruler/``), ``ways.py`` (a strategy with its options and its
model), ``run.py`` with ``journal.py`` (all of it, resumable), ``scores.py``, ``summary.py``, ``tables.py`` and ``pictures.py``.
"""
