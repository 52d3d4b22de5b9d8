"""`graphkv bench`: benchmarks by name. To add one: a file with one function, and a line here."""

from __future__ import annotations

import typer

from graphkv.cli.bench.attention import attention
from graphkv.cli.common import guarded

app = typer.Typer(help="Measure this machine.", no_args_is_help=True)
app.command("attention")(guarded(attention))


@app.callback()
def main() -> None:
    """Measure this machine."""


__all__ = ["app"]
