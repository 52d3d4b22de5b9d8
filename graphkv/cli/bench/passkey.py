"""`graphkv bench passkey`: a number in filler that is repeated over and over, by every strategy."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from graphkv.cli.bench.long_context import (
    Depths,
    DocumentTokens,
    LandmarkModel,
    Lengths,
    Output,
    Plot,
    Seed,
    Strategies,
    StrategyOptions,
    lengths_of,
    places_of,
    run_and_show,
    ways_of,
)
from graphkv.cli.common import Dtype, Json, MaxSegmentTokens, Model


def passkey(
    model: Model = None,
    strategy: Strategies = None,
    lengths: Lengths = "4k,8k,16k",
    depths: Depths = 5,
    cases: Annotated[int, typer.Option(help="Keys for each length and depth.", min=1)] = 4,
    document_tokens: DocumentTokens = 512,
    max_segment_tokens: MaxSegmentTokens = None,
    option: StrategyOptions = None,
    landmark_model: LandmarkModel = None,
    seed: Seed = 1,
    output: Output = None,
    plot: Plot = False,
    dtype: Dtype = None,
    as_json: Json = False,
) -> None:
    """The passkey task (arXiv 2305.16300): the first whole number of the answer must be the key.

    Lengths, --output and cells beyond the window are as in `graphkv bench needle`.

    [bold]A session[/bold]

    \b
    $ graphkv bench passkey --lengths 2k --depths 3 --cases 2 -s graph | grep graph | head -1
    | `graph` | 100.0 [61.0, 100.0] |
    """
    sizes = lengths_of(lengths)
    places_of(output)
    ways = ways_of(strategy, option, model, dtype, max_segment_tokens, landmark_model)
    from graphkv_benchmarks.long_context.haystack import Meter
    from graphkv_benchmarks.long_context.needle import spread
    from graphkv_benchmarks.long_context.passkey import passkey_contexts

    settings: dict[str, Any] = {"cases": cases, "seed": seed, "document_tokens": document_tokens}
    contexts = passkey_contexts(Meter(ways[0].engine), sizes, spread(depths), **settings)
    run_and_show(ways, contexts, {"benchmark": "passkey", "lengths": sizes, "depths": spread(depths), **settings}, output, plot, as_json)
