"""From what people have to a graph. One file a format; heavy parsers are imported only when one runs.

    build.py      the whole way: sources → records → references matched → graph and report; read it first
    record.py     what an importer hands over
    reading.py    how importers read files: bounded, never outside their folder, every skip on record
    formats.py    formats by name and by ending
    json_rows.py  JSON and JSON Lines, row by row

To add a format: a file with ``read(path, root, reading)`` and its ending in formats.py; for rows of JSON, a file with
``matches(row)`` and ``read(row, where, reading)`` and its name in json_rows.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphkv.importers.build import Build, build_graph
    from graphkv.importers.langchain import from_langchain
    from graphkv.importers.report import BuildReport

__all__ = ["Build", "BuildReport", "build_graph", "from_langchain"]

_HOMES = {"Build": "build", "build_graph": "build", "from_langchain": "langchain", "BuildReport": "report"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'graphkv.importers' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"graphkv.importers.{_HOMES[name]}"), name)
