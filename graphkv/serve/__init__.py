"""The HTTP service: OpenAI's API over a graph of documents. Needs ``pip install 'graphkv[serve]'``; nothing outside this package imports it when it is imported itself.

    run.py            serve(): one process, one worker, one model; stops without breaking an answer off
    app.py            create_app(): the routes, the guard and the errors put together
    settings.py       Settings: limits and names, checked once
    state.py          State: what the routes reach by state_of(request)

    guard.py          what stands before every route: hosts, sizes, slow clients, request ids, one log line each
    json_scan.py      JSON that would hurt its parser, found before it is parsed
    wire.py           connections that send or read too slowly
    keys.py           API keys, and the scope that each opens
    errors.py         every failure as OpenAI's error body
    metrics.py        what /metrics shows
    log.py            one JSON line a request

    chat.py           POST /v1/chat/completions: asking.py makes the question, waiting.py waits, completion.py, citations.py and streaming.py answer
    score.py          POST /v1/score
    models.py         GET /v1/models
    library_routes.py /v1/documents, kept by library.py
    graph_view.py     POST /v1/graph, for the page
    health.py         /health, /ready, /metrics
    page.py           the page at /, its files in page/

    schema.py         what clients send; messages.py, documents.py, document_forms.py, layout_choice.py and refusals.py read it
    replies.py        what they are answered

To add a route: a module with a `router`, and its name in app.py.
"""
