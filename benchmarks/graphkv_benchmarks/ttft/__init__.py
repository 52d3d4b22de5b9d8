"""The time to the first token, over documents that are encoded and over documents that are not, beside transformers' own prefill.

    row.py     one row: a model and a number of context tokens, measured in a process of its own
    run.py     all rows of a run, and the ratios
    plots.py   the pictures
"""
