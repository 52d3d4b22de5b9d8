"""BibTeX and BibLaTeX databases (.bib): each entry a record, for itself or as a paper's reference."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from graphkv.errors import DocumentError
from graphkv.importers.entry_text import Entry, full_name, plain, short_names, surname
from graphkv.importers.printed import printed_entry
from graphkv.importers.reading import Reading
from graphkv.importers.record import Record, Reference, normal_arxiv

_VENUES = ("journal", "journaltitle", "booktitle", "maintitle", "howpublished", "school", "institution", "publisher", "organization")
_CITES = ("crossref", "xdata", "xref", "related", "cites", "references")
_LIKE_ARXIV = re.compile(r"(?i)arxiv|\bcorr\b|\babs/")
_NOOP = re.compile(r"(?i)\\(?:noop\w*|sortnoop)\s*\{[^{}]*\}")
"""A command that prints nothing, by which BibTeX's manual has entries sorted: ``{\\noop{2000}}1999``."""
_PIECES = re.compile(r'\{((?:[^{}]|\{[^{}]*\})*)\}|"([^"]*)"|([^\s#{}"]+)')


def read(path: Path, root: Path, reading: Reading) -> Iterator[Record]:
    """Each entry of a database as a record whose id is its key.

    The record's abstract is what a reference list prints, and behind it the entry's own abstract if there is one.
    ``crossref``, ``xdata``, ``xref``, ``related`` and the lists ``cites`` or ``references`` (keys with commas between them)
    are its references. Broken blocks and doubled keys are skipped and counted.

    Raises:
        DocumentError: the file cannot be read, or has no entry at all.
    """
    before = len(reading.skipped)
    raw = load(path, reading)
    if not raw and len(reading.skipped) == before:
        raise DocumentError(f"{path} holds no entries: expected @article{{key, ...}} and the like")
    for key, block in raw.items():
        where = f"{path}, line {block.start_line + 1}"
        try:
            entry = entry_of(block, raw)
        except DocumentError as error:
            reading.skip(where, str(error))
            continue
        if key and (entry.reference.text or entry.abstract):
            yield record_of(entry, where)
        else:
            reading.skip(where, f"entry {key!r} has {'no title and nothing else to read' if key else 'no key'}")


def record_of(entry: Entry, where: str) -> Record:
    """An entry of a bibliography as a record of its own."""
    of = entry.reference
    return Record(
        id=of.key,
        title=of.title,
        abstract="\n\n".join(filter(None, (of.text, entry.abstract))),
        references=tuple(Reference(key=cited, target=cited) for cited in entry.cites),
        authors=of.authors,
        year=of.year,
        doi=of.doi,
        arxiv=of.arxiv,
        aliases=entry.aliases,
        where=where,
        role="reference",
        metadata={name: value for name, value in (("entry_type", entry.kind), ("venue", entry.venue)) if value},
    )


def load(path: Path, reading: Reading) -> dict[str, Any]:
    """The entries of a database by key, as bibtexparser has them; what it cannot read is skipped and counted.

    Raises:
        DocumentError: the file cannot be read.
    """
    import bibtexparser
    from bibtexparser import middlewares, model

    text = reading.text(path)
    logger = logging.getLogger("bibtexparser.splitter")
    logger.addFilter(_is_no_warning)  # what it would warn of is skipped and counted below
    try:
        library = bibtexparser.parse_string(text, parse_stack=[])
    finally:
        logger.removeFilter(_is_no_warning)
    for failed in library.failed_blocks:
        if isinstance(failed, model.DuplicateFieldKeyBlock):
            entry = failed.ignore_error_block
            entry.fields = list({field.key: field for field in reversed(entry.fields)}.values())
            reading.note(f"{path}, line {entry.start_line + 1}", f"{', '.join(sorted(failed.duplicate_keys))} given twice; the first counts")
            library.add(entry, fail_on_duplicate_key=False)
    for failed in library.failed_blocks:
        where = f"{path}, line {(failed.start_line or 0) + 1}"
        if isinstance(failed, model.DuplicateBlockKeyBlock):
            reading.skip(where, f"the key {failed.key!r} is there already; the first one counts")
        elif not isinstance(failed, model.DuplicateFieldKeyBlock):
            reading.skip(where, f"not BibTeX: {getattr(failed.error, 'abort_reason', failed.error)}")
    strings = {string.key.lower(): string.value for string in library.strings}
    for entry in library.entries:
        for field in entry.fields:
            if ("#" in field.value and not field.value.startswith(("{", '"'))) or '" #' in field.value or "} #" in field.value:
                field.value = _joined(field.value, strings)
    for middleware in middlewares.default_parse_stack():
        library = middleware.transform(library)
    return {entry.key: entry for entry in sorted(library.entries, key=lambda entry: entry.start_line)}


def _is_no_warning(record: logging.LogRecord) -> bool:
    return record.levelno > logging.WARNING


def _joined(value: str, strings: Mapping[str, str]) -> str:
    """A value put together with ``#``, which the library leaves as it is: ``jan # "~1"``."""
    pieces = [inner or quoted or _joined(strings[word.lower()], {}) if word.lower() in strings else inner or quoted or word for inner, quoted, word in _PIECES.findall(value)]
    return "{" + "".join(pieces) + "}"


def entry_of(block: Any, others: Mapping[str, Any]) -> Entry:
    """One entry; what it leaves to its ``crossref`` or ``xdata`` comes from `others`.

    Raises:
        DocumentError: a field is nested too deep.
    """
    from bibtexparser.middlewares.names import split_multiple_persons_names

    fields = _fields(block, others)
    text = {name: plain(fields[name]) for name in ("title", "subtitle", "abstract", "note", *_VENUES) if fields.get(name)}
    names = split_multiple_persons_names(fields.get("author") or fields.get("editor") or "")
    authors = tuple(plain(full_name(name)) for name in names if name.strip() != "others")
    surnames = [plain(surname(name)) for name in names]
    found = re.search(r"(?<!\d)\d{4}(?!\d)", fields.get("year") or fields.get("date") or "")
    year = int(found.group()) if found else None
    title = ": ".join(text[name] for name in ("title", "subtitle") if text.get(name)) or None
    venue = next((text[name] for name in _VENUES if text.get(name)), "")
    links = [fields.get(name, "") for name in ("url", "ee", "howpublished", "note", "journal", "journaltitle", "volume")]
    eprint = fields.get("eprint", "") if fields.get("archiveprefix", fields.get("eprinttype", "arxiv")).lower() == "arxiv" else ""
    arxiv = next(filter(None, (normal_arxiv(eprint), *(normal_arxiv(link) for link in links if _LIKE_ARXIV.search(link)))), None)
    doi = fields.get("doi") or next((link for link in links if "doi.org/" in link), None)
    printed_year = fields.get("year") or (str(year) if year else "")
    cited = [key.strip() for name in _CITES for key in fields.get(name, "").split(",")]
    reference = Reference(
        key=block.key,
        title=title,
        authors=authors,
        year=year,
        doi=doi and doi.replace("\\", ""),
        arxiv=arxiv or normal_arxiv((doi or "").lower().partition("/arxiv.")[2]),
        text=printed_entry(authors, plain(printed_year), title, venue or text.get("note", "")),
    )
    return Entry(
        reference,
        names=short_names(surnames),
        year=str(year or ""),
        abstract=text.get("abstract", ""),
        cites=tuple(dict.fromkeys(key for key in cited if key and key != block.key)),
        venue=venue,
        kind=block.entry_type,
        aliases=tuple(filter(None, (key.strip() for key in fields.get("ids", "").split(",")))),
    )


def _fields(block: Any, others: Mapping[str, Any]) -> dict[str, str]:
    """An entry's fields in lower case, with what it inherits."""
    own = {field.key.lower(): _NOOP.sub("", str(field.value)) for field in block.fields}
    inherited: dict[str, str] = {}
    for name in ("xdata", "crossref"):
        key = own.get(name, "").strip()
        if key and key in others:
            parent = others[key]
            theirs = {field.key.lower(): _NOOP.sub("", str(field.value)) for field in parent.fields}
            if name == "crossref":
                theirs = {"booktitle": theirs.get("title", ""), **{k: v for k, v in theirs.items() if k in ("year", "date", "publisher", "editor")}}
            inherited |= theirs
    return {**inherited, **own}
