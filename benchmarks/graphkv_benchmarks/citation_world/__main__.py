"""Write citation worlds as JSON lines: ``python -m graphkv_benchmarks.citation_world --out worlds.jsonl``."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from .rows import rows
from .world import STYLES, Recipe, one_style

TYPES = ("attribute", "title", "comparison", "unanswerable")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m graphkv_benchmarks.citation_world", description="Write citation worlds as JSON lines.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--worlds", type=int, default=10, help="how many worlds, one a line")
    parser.add_argument("--documents", type=int, default=8, help="papers a world")
    parser.add_argument("--distractors", type=int, default=0, help="how many of the papers stand outside the graph and the questions")
    parser.add_argument("--missing", type=int, default=0, help="so many cited papers are not among the documents")
    parser.add_argument("--words", type=int, default=0, help="fill every paper up to so many words (default: facts only, some 40)")
    parser.add_argument("--style", choices=STYLES, help="all citations of one style (default: a mixture)")
    parser.add_argument("--types", nargs="+", default=[], choices=TYPES, help="only such questions (default: all)")
    parser.add_argument("--hops", nargs="+", type=int, default=[], choices=(1, 2, 3), help="only questions of so many hops (default: all)")
    parser.add_argument("--gold-position", type=int, default=None, help="one question a world, its gold document at this place (-1: last)")
    parser.add_argument("--questions", type=int, default=None, help="at most this many questions a world (default: all)")
    parser.add_argument("--held-out", action="store_true", help="use the names reserved for evaluation")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(argv)
    for name, least in (("worlds", 1), ("documents", 1), ("questions", 1), ("distractors", 0), ("missing", 0), ("words", 0)):
        value = getattr(args, name)
        if value is not None and value < least:
            parser.error(f"--{name} must be at least {least}, got {value}")
    if not args.out.parent.is_dir():
        parser.error(f"--out: there is no folder {args.out.parent}; make it, or name another")
    recipe = replace(one_style(args.style) if args.style else Recipe(), words=args.words, distractors=args.distractors, missing=args.missing)
    made = rows(
        args.seed, args.worlds, args.documents, args.held_out, args.questions, recipe,
        types=args.types, hops=args.hops, gold_position=args.gold_position,
    )  # fmt: skip
    temporary = args.out.with_name(args.out.name + ".part")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            for row in made:
                file.write(json.dumps(row) + "\n")
    except ValueError as error:
        temporary.unlink(missing_ok=True)
        parser.error(str(error))
    os.replace(temporary, args.out)
    print(json.dumps({"out": str(args.out), "worlds": args.worlds}))


if __name__ == "__main__":
    main()
