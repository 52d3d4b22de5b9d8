"""Exact match on held-out citation worlds: ``graphkv bench citation-world``.

Read it in this order: ``arms.py`` (what is compared), ``cells.py`` (which questions make a cell), ``answers.py`` (when an answer is
right), ``presets.py`` (which cells a preset has), ``measure.py`` (one batch of cells), ``run.py`` (all of them, by several
processes, resumable), ``tables.py`` and ``plots.py``.
"""
