"""The HTTP server under measurement: a real process, a real client, one result.

    run.py          run_serving(): everything in one run, and what was wanted beside what came
    contexts.py     what is asked: citation worlds of a wanted size, as request bodies
    process.py      Server: `graphkv serve` as a process that can be killed and started again, and its memory
    client.py       one question over HTTP, with the moment of its first words
    first_token.py  the first question over documents and the second, also after a restart and in another order
    load.py         many clients for a while: answers, statuses, times, memory
    together.py     questions over one context at once and one at a time
    peer.py         the same questions by transformers alone
    verdicts.py     whether what came is what was wanted
"""
