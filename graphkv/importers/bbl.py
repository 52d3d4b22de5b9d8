"""Formatted bibliographies (.bbl) of BibTeX, natbib and biblatex: entries in order, and what citations of them print."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from graphkv.errors import DocumentError
from graphkv.importers.bibitem import entry_of_item
from graphkv.importers.bibtex import record_of
from graphkv.importers.entry_text import Entry, plain, short_names
from graphkv.importers.latex.clean import clean
from graphkv.importers.latex.scan import Scanner
from graphkv.importers.printed import printed_entry
from graphkv.importers.reading import Reading
from graphkv.importers.record import Record, Reference, normal_arxiv

_ITEM = re.compile(r"\\bibitem(?![A-Za-z@])|\\end\s*\{thebibliography\}")
_ENTRY = re.compile(r"\\(?P<what>entry|endentry|endsortlist|enddatalist)(?![A-Za-z@])")
_VERB = re.compile(r"\\verb\{(\w+)\}\s*\\verb (.*?)\s*\\endverb", re.DOTALL)
_PART_OF_NAME = re.compile(r"(?<![a-z])(family|given|prefix)=\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}")
_VENUES = ("journaltitle", "booktitle", "maintitle", "howpublished", "eventtitle", "institution", "publisher")


def read(path: Path, root: Path, reading: Reading) -> Iterator[Record]:
    """Each entry of a bibliography that belongs to no paper, as a record whose id is its key.

    Raises:
        DocumentError: the file cannot be read, or has no entry at all.
    """
    for key, entry in entries(reading.text(path), str(path), reading).items():
        if entry.reference.text:
            yield record_of(entry, str(path))
        else:
            reading.skip(f"{path}, {key}", "an entry without any text")


def entries(text: str, where: str, reading: Reading, literals: list[str] | None = None) -> dict[str, Entry]:
    """The entries of a bibliography by key, in its order. Doubled keys, and entries that cannot be read, are skipped and counted.

    Args:
        text: the file, or the part of a paper from ``\\begin{thebibliography}`` on. where: for messages.
        literals: if `text` is clean already, what was put aside, see :func:`graphkv.importers.latex.clean.clean`.

    Raises:
        DocumentError: there is no entry at all.

    Example:
        >>> found = entries(r"\\bibitem{lo} Kyle Lo. 2020. \\newblock S2ORC.", "a.bbl", Reading())["lo"]
        >>> found.reference.title, found.reference.year
        ('S2ORC', 2020)
    """
    aside: list[str] = [] if literals is None else literals
    made: Iterator[tuple[str, Callable[[], Entry]]]
    if re.search(r"\\entry\s*\{", text):  # its \verb is not LaTeX's
        source = clean(_VERB.sub(lambda found: f"\\field{{{found[1]}}}{{{found[2].replace('%', chr(92) + '%')}}}", text), aside)
        made = ((key, partial(_entry_of_fields, key, fields)) for key, fields in _biblatex(source))
    else:
        made = ((key, partial(entry_of_item, key, label, latex, aside)) for key, label, latex in _items(clean(text, aside) if literals is None else text))
    found: dict[str, Entry] = {}
    count = 0
    for count, (key, make) in enumerate(made, start=1):
        place = f"{where}, entry {count}"
        if not key:
            reading.skip(place, "an entry without a key")
        elif key in found:
            reading.skip(place, f"the key {key!r} is there already; the first one counts")
        else:
            try:
                found[key] = make()
            except DocumentError as error:
                reading.skip(place, str(error))
    if not count:
        raise DocumentError(rf"{where} holds no entries: expected \bibitem{{key}} or \entry{{key}}")
    return found


def _items(source: str) -> Iterator[tuple[str, str, str]]:
    """Key, label and text of each ``\\bibitem``."""
    starts = list(_ITEM.finditer(source))
    for number, start in enumerate(starts):
        if not start.group().startswith(r"\bibitem"):
            continue
        end = starts[number + 1].start() if number + 1 < len(starts) else len(source)
        scanner = Scanner(source[start.end() : end])
        label = scanner.option() or ""
        key = " ".join(scanner.argument().split())
        yield key, label, scanner.rest()


def _biblatex(source: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Key and fields of each ``\\entry``; a list of the same entries in another order adds nothing."""
    seen: set[tuple[str, str]] = set()
    starts = list(_ENTRY.finditer(source))
    for number, start in enumerate(starts):
        if start["what"] != "entry":
            continue
        end = starts[number + 1].start() if number + 1 < len(starts) else len(source)
        scanner = Scanner(source[start.end() : end])
        key, kind = " ".join(scanner.argument().split()), scanner.argument().strip()
        content = scanner.rest()
        if (key, content) not in seen:
            seen.add((key, content))
            yield key, {"entry_type": kind, **_fields(content)}


def _fields(content: str) -> dict[str, str]:
    """``\\field{name}{value}``, and ``\\name`` and ``\\list`` whose value is the last of their arguments."""
    fields: dict[str, str] = {}
    scanner = Scanner(content)
    while scanner.plain() is not None:
        if scanner.control() in ("field", "strng", "list", "name"):
            arguments = _groups(scanner)
            if len(arguments) > 1:
                fields.setdefault(arguments[0].strip().lower(), arguments[-1])
    return fields


def _groups(scanner: Scanner) -> list[str]:
    groups: list[str] = []
    while scanner.group_ahead():
        groups.append(scanner.argument())
    return groups


def _people(names: str) -> list[tuple[str, str]]:
    """Full name and surname of each person in a ``\\name`` field, in biber's form or its older one."""
    people: list[tuple[str, str]] = []
    for person in _groups(Scanner(names)):
        groups = _groups(Scanner(person))
        named = next((dict(_PART_OF_NAME.findall(group)) for group in groups if "family=" in group), None)
        if named is None:  # {hash=...}{family}{initial}{given}{initial}{prefix}{initial} ...
            named = dict(zip(("family", "", "given", "", "prefix"), groups[1:], strict=False))
        given, prefix, family = (plain(named.get(part, "")) for part in ("given", "prefix", "family"))
        surname = f"{prefix} {family}".strip()
        people.append((f"{given} {surname}".strip(), surname))
    return people


def _entry_of_fields(key: str, fields: dict[str, str]) -> Entry:
    """An entry of biblatex."""
    text = {name: plain(fields[name]) for name in ("title", "subtitle", "abstract", *_VENUES) if fields.get(name)}
    people = _people(fields.get("author") or fields.get("editor") or "")
    authors = tuple(full for full, _ in people if full)
    date = re.search(r"\d{4}", fields.get("year") or fields.get("date") or fields.get("labelyear") or "")
    year = date.group() if date else ""
    extra = fields.get("extradate", fields.get("extrayear", "")).strip()
    title = ": ".join(text[name] for name in ("title", "subtitle") if text.get(name)) or None
    venue = next((text[name] for name in _VENUES if text.get(name)), "")
    links = (fields.get("eprint", "") if fields.get("eprinttype", "arxiv").lower() == "arxiv" else "", *(fields.get(n, "") for n in ("url", "doi")))
    reference = Reference(
        key=key,
        title=title,
        authors=authors,
        year=int(year) if year else None,
        doi=(fields.get("doi") or fields.get("url") or "").replace("\\", ""),
        arxiv=normal_arxiv(links[0]) or next((normal_arxiv(link) for link in links[1:] if "arxiv" in link.lower()), None),
        text=printed_entry(authors, year, title, venue),
    )
    letter = chr(ord("a") + int(extra) - 1) if extra.isdigit() and 0 < int(extra) <= 26 else ""
    surnames = [surname for _, surname in people]
    return Entry(reference, short_names(surnames), year + letter, text.get("abstract", ""), venue=venue, kind=fields["entry_type"])
