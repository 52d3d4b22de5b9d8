"""`graphkv heads`: which heads of a model look at what an answer is copied from; saved beside the model, for infini_retri."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from graphkv.cli.common import Dtype, Json, load_engine, print_json
from graphkv.errors import DocumentError, InputError
from graphkv.progress import late_progress

if TYPE_CHECKING:
    from graphkv_retrieval.heads import HeadScores

SHOWN = 8
"""Lines of the table."""


def heads(
    model: Annotated[str | None, typer.Argument(help="A folder or a hub id; the embedded model without it.", show_default=False)] = None,
    top: Annotated[int, typer.Option("--top", help="Heads to save, at most.", min=1)] = 2,
    threshold: Annotated[float, typer.Option("--threshold", help="What a head must find, and copy, to be saved with the best one.", min=0.0, max=1.0)] = 0.8,
    needles: Annotated[int, typer.Option("--needles", "-n", help="Needles to ask for.", min=1)] = 32,
    length: Annotated[int, typer.Option("--length", help="Tokens of a haystack.", min=64)] = 1024,
    seed: Annotated[int, typer.Option("--seed", help="Of names, values and filler.")] = 0,
    text: Annotated[Path | None, typer.Option("--text", metavar="FILE", help="A haystack of your own; invented filler without it.", show_default=False)] = None,
    window: Annotated[int | None, typer.Option("--window", help="Saved with them: tokens of a window.", min=1, show_default="the paper's 1024")] = None,
    top_tokens: Annotated[int | None, typer.Option("--top-tokens", help="Saved with them: best tokens whose sentences are kept.", min=1, show_default="the paper's 300")] = None,
    save: Annotated[bool, typer.Option("--save/--no-save", help="Save them, or only look.")] = True,
    dtype: Dtype = None,
    as_json: Json = False,
) -> None:
    """Find a model's retrieval heads by needles, and save the best: infini_retri reads its windows with them.

    copy: how often the head looks at the token of the needle that is being copied (arXiv 2404.15574). question, last: how often the needle is
    found before anything is written, with the question's rows and with the prompt's last row. margin: how much better it is than the rest (a natural
    logarithm, median of the needles, with the better rows); the greatest come first. Saved in the model's folder; for a model from the hub, or one that
    is part of graphkv, in your cache folder.

    [bold]A session[/bold]

    \b
    $ graphkv heads --needles 24 --length 800 --no-save
    13 of 24 needles answered, 68 tokens copied
    layer  head  copy  question  last  margin
        3     0  0.99      0.46  0.96   17.89
        3     1  0.99      0.42  1.00   17.89
    ...
    best with the last row: layer 3 head 0, layer 3 head 1
    """
    hay = None if text is None else _read(text)
    engine = load_engine(model, dtype)
    from graphkv_retrieval.head_file import save_heads
    from graphkv_retrieval.heads import detect_heads, tables

    with late_progress("asking for needles") as progress:
        scores = detect_heads(engine, n=needles, length=length, seed=seed, text=hay, progress=progress)
    best = scores.best(top, threshold)
    if not scores.reaching(threshold):
        typer.secho(f"warning: no head finds and copies at least {threshold:g} of the time: the one with the greatest margin is taken", fg=typer.colors.YELLOW, err=True)
    place = save_heads(engine.model, scores, best, window=window, top_tokens=top_tokens) if save else None
    if as_json:
        found = {name: table.tolist() for name, table in tables(scores).items()}
        counts = {"needles": scores.needles, "answered": scores.answered, "copied": scores.copied}
        print_json(counts | {"heads": best, "rows": scores.rows} | found | {"saved": None if place is None else str(place)})
        return
    typer.echo(f"{scores.answered} of {scores.needles} needles answered, {scores.copied} tokens copied")
    _table(scores)
    typer.echo(f"best with {'the last row' if scores.rows == 'last' else 'the rows of the question'}: {', '.join(f'layer {layer} head {head}' for layer, head in best)}")
    if place is not None:
        typer.echo(f"saved: {place}")


def _read(path: Path) -> str:
    try:
        hay = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DocumentError(f"{path} cannot be read as UTF-8 text: {error}") from None
    if not hay.strip():
        raise InputError(f"{path} is empty: expected text to hide needles in")
    return hay


def _table(scores: HeadScores) -> None:
    from rich.console import Console
    from rich.table import Table

    from graphkv_retrieval.heads import tables

    found = tables(scores)
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("layer", "head", *found):
        table.add_column(column, justify="right")
    for layer, head in scores.ranked()[:SHOWN]:
        table.add_row(str(layer), str(head), *(f"{float(values[layer, head]):.2f}" for values in found.values()))
    Console().print(table)
