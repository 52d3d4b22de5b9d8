"""A list of what a store holds, so that listing ten thousand entries opens one file.

The entries themselves are the truth: the manifest is read, compared with the folder's listing by name and size, completed from the headers of
files that it lacks, and written anew. It may be missing, old, cut, or of another version: then it is made again. Writers never touch it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import xxhash

FORMAT = 1
NAME = "manifest.jsonl"

Known = dict[str, list[Any]]
"""key → [bytes, tokens, codec, dtype, label, model]"""


def read_manifest(data: Any | None) -> Known:
    """What the file says; nothing if one byte of it is not as it was written, or it is another version's."""
    known: Known = {}
    head, _, body = (b"" if data is None else bytes(data)).partition(b"\n")
    if _parsed(head) != {"graphkv_manifest": FORMAT, "xxh3": xxhash.xxh3_64_hexdigest(body)}:
        return known
    for line in body.splitlines():
        row = _parsed(line)
        if isinstance(row, list) and len(row) == 7 and [type(cell) for cell in row] == [str, int, int, str, str, str, str]:
            known[row[0]] = row[1:]
    return known


def manifest_bytes(known: Mapping[str, Iterable[Any]]) -> bytes:
    """The file."""
    body = "".join(json.dumps([key, *about]) + "\n" for key, about in known.items()).encode()
    return json.dumps({"graphkv_manifest": FORMAT, "xxh3": xxhash.xxh3_64_hexdigest(body)}).encode() + b"\n" + body


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None
