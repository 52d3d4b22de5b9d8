"""Graph-KV's ``text_data/{id}.json``: a paper's text, and the texts of what it cites."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from graphkv.importers.reading import Reading
from graphkv.importers.record import Item, Record, Reference, Section, normal_arxiv


def matches(row: Mapping[str, Any]) -> bool:
    """Whether a row is ``{paper: {"0": text, "1": {reference: text or null}}}``."""
    return bool(row) and all(isinstance(value, Mapping) and "0" in value and isinstance(value.get("1"), Mapping) for value in row.values())


def read(row: Mapping[str, Any], where: str, reading: Reading) -> Iterator[Item]:
    """A record for each paper, and one for each of its references that has a text; a reference without one is known by its name only."""
    for name, parts in row.items():
        cited: Mapping[str, Any] = parts["1"]
        for other, text in cited.items():
            if text is not None and not _usable(other, text):
                reading.skip(where, f"reference {other!r} of {name!r}: expected a text or null, got {_said(text)}")
        texts = {other: text for other, text in cited.items() if _usable(other, text)}
        if _usable(name, parts["0"]):
            references = (
                Reference(other, title=other, arxiv=_arxiv(other), target=other if other in texts else None)
                for other, text in cited.items()
                if other.strip() and (text is None or other in texts)
            )
            yield _paper(name, parts["0"], where, tuple(references))
        else:
            reading.skip(where, f"paper {name!r}: expected its text under '0', got {_said(parts['0'])}")
        for other, text in texts.items():
            if other != name:
                yield _paper(other, text, where, ())


def _usable(name: str, text: object) -> bool:
    return bool(name.strip()) and isinstance(text, str) and bool(text.strip())


def _said(text: object) -> str:
    return "an empty one" if isinstance(text, str) else type(text).__name__


def _paper(name: str, text: str, where: str, references: tuple[Reference, ...]) -> Record:
    return Record(name, title=name, sections=(Section("", text.strip()),), references=references, arxiv=_arxiv(name), where=where, role="paper")


def _arxiv(name: str) -> str | None:
    """The name, if it is an arXiv id and nothing else."""
    found = normal_arxiv(name)
    return found if found is not None and name.lower().startswith(found) and len(name) <= len(found) + 3 else None
