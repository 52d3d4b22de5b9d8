"""TEI as GROBID writes it: a paper's header, body, notes, figures and bibliography."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from graphkv.errors import DocumentError
from graphkv.importers.compose import CAPTIONS, NOTES, Headings, Mark, compose, plain
from graphkv.importers.printed import arxiv_in, printed_entry, year_in
from graphkv.importers.reading import Reading
from graphkv.importers.record import Citation, Item, Record, Reference, Section

_BLOCKS = {"p", "ab", "formula", "list", "figure", "table", "quote", "lg", "note"}
_INLINE = {"p", "s", "ab", "item", "cell", "head", "quote", "note", "figDesc"}
"""In these, blocks go on in the line, except for figures and what is in them."""
_FLOATS = {"figure", "figDesc", "table", "note"}
"""A div in these is a block, not a division."""
_LINES = {"row", "item", "l", "lb"}
_PARTS = ("front", "body", "back")
_XML_ID = "{http://www.w3.org/XML/1998/namespace}id"


def read(path: Path, root: Path, reading: Reading) -> Iterator[Item]:
    """The paper in a TEI file, or each of a teiCorpus.

    Raises:
        DocumentError: the file is not TEI, or there is nothing in it.
    """
    tree = reading.xml(path)
    if _name(tree) not in ("TEI", "TEI.2", "teiCorpus"):
        raise DocumentError(f"{path}: expected TEI, got XML with the root {_name(tree)!r}")
    papers = [tree] if _name(tree) != "teiCorpus" else [e for e in tree.iter() if _name(e) in ("TEI", "TEI.2")]
    names = _names(path, root)
    found = 0
    for number, paper in enumerate(papers, start=1):
        where = str(path) if len(papers) == 1 else f"{path}, paper {number}"
        id = names[0] if len(papers) == 1 else f"{names[0]}/{paper.get(_XML_ID) or number}"
        record = _paper(paper, id, names[1:] if len(papers) == 1 else (), where, reading)
        if record.title or record.size or record.references:
            found += 1
            yield record
        elif len(papers) > 1:
            reading.skip(where, "no title, no text and no references")
    if not found:
        raise DocumentError(f"{path}: TEI without a title, text or references")


def _names(path: Path, root: Path) -> tuple[str, ...]:
    """The id, and other names: the path below `root` without its ending, or the folder's name for a lone main.tei.xml."""
    below = path.relative_to(root) if path.is_relative_to(root) else Path(path.name)
    stem = re.sub(r"(?i)(?:\.(?:grobid|tei|xml))+$", "", path.name) or path.name
    full = (below.parent / stem).as_posix()
    usual = stem.lower() in ("main", "paper", "ms", "article", "fulltext", "manuscript")
    if usual and sum(file.suffix.lower() in (".xml", ".tei") for file in path.parent.iterdir()) == 1:
        folder = below.parent.as_posix() if below.parent != Path() else root.resolve().name
        return tuple(dict.fromkeys((folder or stem, full, path.name)))
    return tuple(dict.fromkeys((full, stem, path.name)))


def _paper(paper: Any, id: str, aliases: tuple[str, ...], where: str, reading: Reading) -> Record:
    references = _references(paper, where, reading)
    header = next(_all(paper, "teiHeader"), None)
    head = header if header is not None else paper
    source = next(_all(head, "sourceDesc"), head)
    summary = next(_all(head, "abstract"), None)
    abstract, cited = _Walk(summary, references).whole if summary is not None else ("", ())
    body = [part for name in _PARTS for part in _all(paper, name) if not _within(part, *_PARTS)]
    return Record(
        id=id,
        title=_title(head),
        abstract="" if cited else abstract,
        sections=(
            *([Section("", abstract, cited)] if cited else []),
            *(section for part in body for section in _Walk(part, references).sections),
        ),
        references=tuple(references.values()),
        authors=_authors(source) or _authors(head),
        year=_year(head),
        doi=_idno(head, "doi"),
        arxiv=_idno(head, "arxiv"),
        aliases=tuple(dict.fromkeys((*aliases, *filter(None, [_idno(head, "md5")])))),
        where=where,
        role="paper",
    )


# The text: one walk over a part of the paper, without recursion.


class _Open:
    """A section while it is read: its text, and the citations so far."""

    def __init__(self, heading: str, depth: int, number: str | None = None) -> None:
        self.heading = heading
        self.depth = depth  # of the division that it stands in
        self.number = number  # None: it has no heading of its own, or one that waits for no text
        self.pieces: list[str] = []
        self.size = 0
        self.marks: list[Mark] = []

    def add(self, text: str | None) -> None:
        if text:
            self.pieces.append(text)
            self.size += len(text)

    @property
    def last(self) -> str:
        return self.pieces[-1][-1] if self.pieces else ""


class _Walk:
    """The sections of a part in the order of its text; figures and notes outside of its divisions get headings of their own."""

    def __init__(self, part: Any, references: Iterable[str]) -> None:
        from lxml import etree

        self.part = part
        self.found = [_Open("", 0)]
        self.divisions: list[str] = []  # headings of those that are open
        self.floats = 0  # how many figures, tables and notes are open
        self.cited: list[tuple[int, int]] = []  # where the open citations begin: in the text, in its pieces
        self.numbers = {key: number for number, key in enumerate(references, start=1)}
        walk = etree.iterwalk(part, events=("start", "end"))
        for event, element in walk:
            name = _name(element)
            self.floats -= event == "end" and name in _FLOATS
            parent = self._parent(element)
            if event == "end":
                self.end(element, name, parent)
            elif self.start(element, name, parent):
                self.found[-1].add(element.text)
            else:
                walk.skip_subtree()
            self.floats += event == "start" and name in _FLOATS

    @property
    def sections(self) -> list[Section]:
        """Those that have text."""
        made, headings = [], Headings()
        for part in self.found:
            text, citations = compose([("".join(part.pieces), part.marks)])
            if part.heading and part.number is None:
                heading = headings.go_on(part.heading, text, part.depth)
            else:
                heading = headings.read(part.heading, part.number or "", text, part.depth)
            if text:
                made.append(Section(heading, text, citations))
        return made

    @property
    def whole(self) -> tuple[str, tuple[Citation, ...]]:
        """The text of all sections, without their headings."""
        return compose(("".join(part.pieces), part.marks) for part in self.found)

    def _parent(self, element: Any) -> str:
        """What an element stands in; a div that is no division is passed over."""
        if element is self.part:
            return ""
        above = element.getparent()
        while self.floats and above is not self.part and _name(above) == "div":
            above = above.getparent()
        return _name(above)

    def start(self, element: Any, name: str, parent: str) -> bool:
        """Open an element. False if what it holds is not to be read."""
        now = self.found[-1]
        if name == "listBibl":
            now.number = None
            return False
        if name == "div" and not self.floats:
            self.divisions.append("")
            self.found.append(_Open("", len(self.divisions)))
        elif name == "head" and parent in ("div", "front", "body", "back"):
            number = (element.get("n") or "").rstrip(".")
            heading = f"{number} {_text(element)}".strip()
            self.divisions[-1:] = [heading] * len(self.divisions[-1:])
            self.found.append(_Open(heading, len(self.divisions), number))
            return any(_cites(ref) for ref in element.iter())  # a heading that cites is read as text too, or its citations would be lost
        elif name in ("head", "label") and parent == "figure" and not any(_cites(ref) for ref in element.iter()):
            before = element.getprevious()
            said = name == "label" and _name(before) == "head" and _text(before)  # the heading holds the number already
            text = re.sub(r"\s+(?=[:.,])", "", _text(element))
            kind = "Table" if element.getparent().get("type") == "table" else "Figure"
            now.add("" if said or not text else f"{text} " if name == "head" else f"{kind} {text}: ")
            return False
        elif name in ("figure", "note") and not self.divisions and parent in ("body", "back"):
            heading = CAPTIONS if name == "figure" else NOTES
            if now.heading != heading:
                self.found.append(now := _Open(heading, 0))
        self._before(element, name, parent, now)
        if _cites(element):
            now.add(" " if now.last in (",", ";") else "")  # between citations that are printed with a space, GROBID leaves none
            self.cited.append((now.size, len(now.pieces)))
        return True

    def _before(self, element: Any, name: str, parent: str, now: _Open) -> None:
        if name in _BLOCKS and parent not in _INLINE:
            now.add("\n\n")
            now.add(f"{element.get('n')} " if name == "note" and element.get("n") else "")
        elif name == "note":
            now.add(" [")
        elif name in _LINES:
            now.add("\u2028- " if name == "item" else "\u2028")
        elif name == "cell" and element.getprevious() is not None:
            now.add(" | ")
        elif name in ("label", "formula", "figDesc") or (name in ("s", "p", "ab", "div") and now.last not in ("", "[")):
            now.add(" ")

    def end(self, element: Any, name: str, parent: str) -> None:
        """Close an element, and read what follows it."""
        now = self.found[-1]
        if _cites(element) and self.cited:
            start, piece = self.cited.pop()
            keys = (element.get("target") or "").replace("#", " ").split()
            if not "".join(now.pieces[piece:]).strip():
                now.add(f"[{', '.join(str(self.numbers.get(key, '?')) for key in keys) or '?'}]")
            now.marks += [Mark(start, now.size, key=key) for key in keys or [_text(element)[:500] or "?"]]
        if name == "div" and not self.floats:
            self.divisions.pop()
            self.found.append(_Open(self.divisions[-1] if self.divisions else "", len(self.divisions)))
        elif name in _BLOCKS and parent not in _INLINE:
            now.add("\n\n")
        elif name == "note":
            now.add("]")
        if element is not self.part:
            self.found[-1].add(element.tail)


# The header and the bibliography.


def _references(paper: Any, where: str, reading: Reading) -> dict[str, Reference]:
    references: dict[str, Reference] = {}
    entries = (e for e in paper.iter() if _name(e) in ("biblStruct", "bibl") and _name(e.getparent()) == "listBibl" and not _within(e, "teiHeader"))
    for number, entry in enumerate(entries, start=1):
        key = entry.get(_XML_ID) or f"entry {number}"
        if key in references:
            reading.note(where, f"two entries have the id {key!r}; citations mean the first")
            key = f"{key} (entry {number})"
        references[key] = _reference(entry, key)
    return references


def _reference(entry: Any, key: str) -> Reference:
    article, book = next(_all(entry, "analytic"), None), next(_all(entry, "monogr"), None)
    title, venue = _title(article), _title(book)
    if title is None and not any(t.get("level") in ("j", "s") for t in (_all(book, "title") if book is not None else ())):  # a journal is no work
        title, venue = venue or (_title(entry) if book is None else None), None
    title = re.sub(r"(?i)[.,]\s*(?:arxiv|corr)\W*$", "", title or "") or None
    authors = _authors(article) or _authors(book) or (_authors(entry) if book is None else ())
    notes = [_text(note) for note in _all(entry, "note") if note.get("type") == "raw_reference"]
    printed = notes[0] if notes else _text(entry) if book is None else ""
    printed = re.sub(r"(?<=[a-z])- (?!(?:and|or|to)\b)(?=[a-z])", "", printed)  # words that were broken at the end of a line
    printed = re.sub(r"(?<=\w)- (?=[A-Z])", "-", printed)
    year = _year(book if book is not None else entry)
    numbers = " ".join(_text(number) for number in _all(entry, "idno"))
    return Reference(
        key=key,
        title=title,
        authors=authors,
        year=year,
        doi=_idno(entry, "doi") or printed,
        arxiv=_idno(entry, "arxiv") or arxiv_in(f"{numbers} {printed}"),
        text=printed or printed_entry(authors, year, title, venue),
    )


def _title(part: Any) -> str | None:
    titles = [title for title in _all(part, "title") if _text(title)] if part is not None else []
    main = [title for title in titles if title.get("type") == "main"]
    return _text((main or titles)[0]) if titles else None


def _authors(part: Any) -> tuple[str, ...]:
    names = []
    for author in _all(part, "author") if part is not None else ():
        person = next(_all(author, "persName"), None)
        parts = [_text(e) for e in person.iter() if _name(e) in ("forename", "surname", "genName")] if person is not None else []
        names.append(" ".join(filter(None, parts)) or _text(person) or (_text(author) if len(author) == 0 else ""))
    return tuple(filter(None, names))


def _year(part: Any) -> int | None:
    years = (year_in((date.get("when") or "")[:4]) or year_in(_text(date)) for date in _all(part, "date"))
    return next(filter(None, years), None)


def _idno(part: Any, kind: str) -> str | None:
    return next((_text(e) for e in _all(part, "idno") if (e.get("type") or "").lower() == kind and _text(e)), None)


def _name(element: Any) -> str:
    """The name without its namespace."""
    return element.tag.rpartition("}")[2] if element is not None and isinstance(element.tag, str) else ""


def _all(part: Any, name: str) -> Iterator[Any]:
    return (element for element in part.iter() if _name(element) == name and element is not part)


def _within(element: Any, *names: str) -> bool:
    return any(_name(above) in names for above in element.iterancestors())


def _text(element: Any) -> str:
    return " ".join(plain("".join(element.itertext())).split()) if element is not None else ""


def _cites(element: Any) -> bool:
    return _name(element) == "ref" and element.get("type") == "bibr"
