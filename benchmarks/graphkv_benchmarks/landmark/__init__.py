"""The landmark version of the embedded model: its training rows, and what is measured of it.

    rows.py         training rows: citation worlds, needles, chains of variables, in contexts of up to 512 tokens
    train.py        the recipe, and the plain arm beside it
    export.py       the model as it is shipped
    held_out.py     answers at the trained length, by kind
    perplexity.py   held-out text: the landmark arm beside the plain one
"""
