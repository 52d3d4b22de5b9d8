"""`graphkv bench needle`: a needle in a haystack, depth by length, by every strategy."""

from __future__ import annotations

from pathlib import Path
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


def needle(
    model: Model = None,
    strategy: Strategies = None,
    lengths: Lengths = "4k,8k,16k",
    depths: Depths = 10,
    phrasings: Annotated[int, typer.Option(help="Needles in so many wordings, RULER's first.", min=1)] = 3,
    repeats: Annotated[int, typer.Option(help="Cases of each length, depth and wording.", min=1)] = 1,
    questions_per_context: Annotated[int, typer.Option(help="So many cases share a haystack, at different depths, and are asked together.", min=1)] = 1,
    held_out: Annotated[bool, typer.Option("--held-out/--trained-names", help="Names that the embedded model was never trained on.")] = True,
    text: Annotated[Path | None, typer.Option(metavar="FILE", help="Your own haystack; without it sentences about nothing.", show_default=False)] = None,
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
    """A needle in a haystack: exact match by depth and length, for every strategy.

    Lengths are tokens of the model, with prompt, question and the answer's room in them. What is longer than a strategy can read is
    marked as beyond the window. With --output a run that was stopped goes on when the same command is given again.

    [bold]A session[/bold]

    \b
    $ graphkv bench needle --lengths 2k,4k --depths 3 --output needles --plot | grep -A 4 "### needle"
    ### needle
    \b
    | strategy | 2k (n = 9) | 4k (n = 9) |
    |---|---|---|
    """
    sizes = lengths_of(lengths)
    places_of(output)
    ways = ways_of(strategy, option, model, dtype, max_segment_tokens, landmark_model)
    from graphkv_benchmarks.long_context.haystack import Meter, filler_haystack, text_haystack
    from graphkv_benchmarks.long_context.needle import needle_contexts, spread

    meter = Meter(ways[0].engine)
    haystack = filler_haystack(meter, max(sizes), seed) if text is None else text_haystack(meter, text)
    settings: dict[str, Any] = {
        "phrasings": phrasings, "repeats": repeats, "per_context": questions_per_context, "seed": seed, "held_out": held_out, "document_tokens": document_tokens,
    }  # fmt: skip
    contexts = needle_contexts(meter, haystack, sizes, spread(depths), **settings)
    plan = {"benchmark": "needle", "lengths": sizes, "depths": spread(depths), "text": None if text is None else text.name, **settings}
    run_and_show(ways, contexts, plan, output, plot, as_json)
