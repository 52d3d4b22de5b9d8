"""A list of what a store holds, so that listing ten thousand entries opens one file.

The entries themselves are the truth: the manifest is read, compared with the folder's listing by name and size, completed from the headers of
files that it lacks, and written anew. It may be missing, old, cut, or of another version: then it is made again. Writers never touch it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

FORMAT = 1
NAME = "manifest.jsonl"

Known = dict[str, list[Any]]
"""key → [bytes, tokens, codec, dtype, label, model]"""


def read_manifest(data: Any | None) -> Known:
    """What the file says, or as much of it as can be read; nothing for another version's."""
    known: Known = {}
    lines = bytes(data or b"").split(b"\n")
    if _parsed(lines[0]) != {"graphkv_manifest": FORMAT}:
        return known
    for line in lines[1:]:
        row = _parsed(line)
        if isinstance(row, list) and len(row) == 7 and [type(cell) for cell in row] == [str, int, int, str, str, str, str]:
            known[row[0]] = row[1:]
    return known


def manifest_bytes(known: Mapping[str, Iterable[Any]]) -> bytes:
    """The file."""
    lines = [json.dumps({"graphkv_manifest": FORMAT}), *(json.dumps([key, *about], ensure_ascii=False) for key, about in known.items())]
    return ("\n".join(lines) + "\n").encode()


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None
