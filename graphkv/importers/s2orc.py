"""S2ORC: papers as s2orc-doc2json writes them, rows of the release's pdf_parses, and rows of the Semantic Scholar API's s2orc datasets."""

from __future__ import annotations

import html
import itertools
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from typing import Any

from graphkv.errors import DocumentError
from graphkv.importers.compose import CAPTIONS, Headings, Mark, compose
from graphkv.importers.json_values import mapping, rows, string, strings, text_of
from graphkv.importers.printed import arxiv_in, printed_entry, year_in
from graphkv.importers.reading import Reading
from graphkv.importers.record import Item, Record, Reference, Section

PARSES = ("pdf_parse", "grobid_parse", "latex_parse")
"""Where s2orc-doc2json keeps a paper's body; rows of the release hold the same keys at the top."""

_NEAR = 2000  # characters; how far from its offsets a span is looked for
_LONG = 500  # characters; what is written in many places, and keys that are made of text, are no longer


def matches(row: Mapping[str, Any]) -> bool:
    """Whether a row is a paper of S2ORC in one of its three forms."""
    if "corpusid" in row:
        return isinstance(row.get("content", row.get("body")), Mapping)
    return "paper_id" in row and (isinstance(row.get("body_text"), list) or any(isinstance(row.get(name), Mapping) for name in PARSES))


def read(row: Mapping[str, Any], where: str, reading: Reading) -> Iterator[Item]:
    """The paper in a row.

    Raises:
        DocumentError: the row has no id, or no title, text and references.
    """
    record = _annotated(row, where, reading) if "corpusid" in row else _parsed(row, where, reading)
    if not record.id:
        raise DocumentError(f"{where}: expected a paper_id or a corpusid, got none")
    if not (record.title or record.size or record.references):
        raise DocumentError(f"{where}: paper {record.id!r} has no title, no text and no references")
    yield record


# Parsed papers: paragraphs with spans.


def _parsed(row: Mapping[str, Any], where: str, reading: Reading) -> Record:
    parse, metadata = _parse(row, where, reading), mapping(row.get("metadata"))
    ids = {**mapping(row.get("identifiers")), **metadata, **row}
    entries, formulas = mapping(parse.get("bib_entries")), mapping(parse.get("ref_entries"))
    body = rows(parse.get("body_text")) + rows(parse.get("back_matter"))
    paragraphs = [(_heading(p), _paragraph(p, formulas, where, reading)) for p in body]
    sections, headings = [], Headings()
    for (heading, number, _), members in itertools.groupby(paragraphs, key=lambda pair: pair[0]):
        text, citations = compose(paragraph for _, paragraph in members)
        heading = headings.read(heading, number, text)
        if text:
            sections.append(Section(heading, text, citations))
    floats = [entry for entry in map(mapping, formulas.values()) if entry.get("type") in ("figure", "table")]
    captions, _ = compose((string(entry.get("text")), ()) for entry in floats)
    starts = {string(text)[:200] for _, (text, _) in paragraphs}
    summary = [p for p in rows(parse.get("abstract")) or rows(row.get("abstract")) if string(p.get("text"))]
    kept = [p for p in summary if len(string(p.get("text"))) < 200 or string(p.get("text"))[:200] not in starts]
    if len(kept) < len(summary):
        reading.note(where, f"{len(summary) - len(kept)} paragraphs of the abstract stand in the body too; read once")
    abstract, cited = compose(_paragraph(p, formulas, where, reading) for p in kept)
    if not abstract:
        abstract, cited = compose([(text_of(row.get("abstract")) or text_of(metadata.get("abstract")), ())])
        abstract = re.sub(r"\s*:::\s*", "\n\n", abstract)  # how the release writes the breaks of structured abstracts
    return Record(
        id=string(row.get("paper_id")),
        title=string(row.get("title")) or string(metadata.get("title")) or string(parse.get("title")) or None,
        abstract="" if cited else abstract,
        sections=(
            *([Section("", abstract, cited)] if cited else []),
            *sections,
            *([Section(CAPTIONS, captions)] if captions else []),
        ),
        references=tuple(_reference(key, mapping(entry)) for key, entry in entries.items()),
        authors=_authors(row.get("authors") or metadata.get("authors")),
        year=year_in(string(ids.get("year"))),
        doi=string(ids.get("doi")) or None,
        arxiv=string(ids.get("arxiv_id")) or None,
        aliases=tuple(dict.fromkeys(strings([ids.get(name) for name in ("acl_id", "pmc_id", "s2_pdf_hash", "_pdf_hash")]))),
        where=where,
        role="paper",
    )


def _parse(row: Mapping[str, Any], where: str, reading: Reading) -> Mapping[str, Any]:
    """The parse with the most body text."""
    there = [name for name in PARSES if isinstance(row.get(name), Mapping)]
    sizes = {name: sum(len(text_of(p.get("text"))) for p in rows(row[name].get("body_text"))) for name in there}
    if not sizes:
        return row
    best = max(sizes, key=sizes.__getitem__)
    if sum(size > 0 for size in sizes.values()) > 1:
        reading.note(where, f"has {' and '.join(sizes)}; read {best}, which has more text")
    return mapping(row[best])


def _heading(paragraph: Mapping[str, Any]) -> tuple[str, str, str]:
    """The heading as it is read, its number, and the whole path that tells sections of one heading apart."""
    section = paragraph.get("section")
    if isinstance(section, list):  # pairs of number and heading
        section = "::".join(" ".join(strings(part)) for part in section)
    path = string(section)
    name, number = path.rpartition("::")[2].strip(), string(paragraph.get("sec_num"))
    return (f"{number} {name}".strip() if number and not name.startswith(number) else name), number.rstrip("."), path


def _paragraph(paragraph: Mapping[str, Any], formulas: Mapping[str, Any], where: str, reading: Reading) -> tuple[str, list[Mark]]:
    text, marks, moved, lost = text_of(paragraph.get("text")), [], 0, 0
    for span in rows(paragraph.get("cite_spans")):
        place = _place(text, span)
        if place is None:
            lost += 1
            continue
        moved += place != (span.get("start"), span.get("end"))
        marks += [Mark(*place, key=string(span.get("ref_id")) or string(text[slice(*place)][:_LONG])), *_spaces(text, *place)]
    for span in rows(paragraph.get("ref_spans")):
        marks += _spaces(text, *(_place(text, span) or (0, 0)))
    for span in rows(paragraph.get("eq_spans")):
        known = mapping(formulas.get(string(span.get("ref_id"))))
        written = next(filter(None, map(string, (span.get("latex"), span.get("raw_str")))), "")
        written = written or next((text for text in map(string, (known.get("latex"), known.get("text"))) if text and len(text) <= _LONG), "")
        place = _place(text, span)
        if place and written and re.fullmatch(r"(?:INLINE|DISPLAY)?(?:EQUATION|FORM|FORMULA)\d*", text[slice(*place)].strip()):
            marks.append(Mark(*place, text=written))
    if moved:
        reading.note(where, f"{moved} citations of a paragraph do not stand where their offsets say; found by their text")
    if lost:
        reading.skip(where, f"{lost} citations of a paragraph that are not in its text")
    return text, marks


def _spaces(text: str, start: int, end: int) -> list[Mark]:
    """The spaces around a span that its parser has put before a comma or behind a bracket."""
    before, behind = re.fullmatch(r"\( ", text[max(0, start - 2) : start]), re.match(r" [.,;:)]", text[end : end + 2])
    return [Mark(place, place + 1, text="") for place, found in ((start - 1, before), (end, behind)) if found]


def _place(text: str, span: Mapping[str, Any]) -> tuple[int, int] | None:
    """Where a span stands; if its offsets do not fit the text that it gives, where that text stands nearest."""
    start, end, wanted = span.get("start"), span.get("end"), text_of(span.get("text"))
    if (
        isinstance(start, int)
        and isinstance(end, int)
        and 0 <= start < end <= len(text)
        and (text[start:end] == wanted if wanted else text[start:end].strip())
    ):
        return start, end
    if not wanted.strip():
        return None
    near = min(max(start, 0), len(text)) if isinstance(start, int) else 0
    low, high = max(0, near - _NEAR), near + len(wanted) + _NEAR
    found = [place for place in (text.rfind(wanted, low, near + len(wanted)), text.find(wanted, near, high)) if place >= 0]
    if not found:
        return None
    start = min(found, key=lambda place: abs(place - near))
    return start, start + len(wanted)


def _reference(key: str, entry: Mapping[str, Any]) -> Reference:
    ids = {name.lower(): strings(value) for name, value in mapping(entry.get("other_ids")).items()}
    title, authors = string(entry.get("title")), _authors(entry.get("authors"))
    venue, printed = string(entry.get("venue")), string(entry.get("raw_text"))
    year = year_in(string(entry.get("year")))
    return Reference(
        key=key,
        title=title or None,
        authors=authors,
        year=year,
        doi=next(iter(ids.get("doi", [])), None) or printed,
        arxiv=next(iter(ids.get("arxiv", [])), None) or arxiv_in(f"{venue} {printed}"),
        text=printed or printed_entry(authors, year, title, venue),
        target=next(iter(strings(entry.get("link")) + strings(entry.get("links"))), None),
    )


def _authors(value: object) -> tuple[str, ...]:
    names = []
    for author in value if isinstance(value, list) else []:
        person = mapping(author)
        parts = [part for name in ("first", "middle", "last", "suffix") for part in strings(person.get(name))]
        names.append(html.unescape(string(person.get("name")) or " ".join(parts) or string(author)))
    return tuple(name for name in names if len(name) > 1)


# The API's rows: one text, and annotations that say what its characters are.

_Span = tuple[int, int, Mapping[str, Any]]


def _annotated(row: Mapping[str, Any], where: str, reading: Reading) -> Record:
    content = mapping(row.get("content") or row.get("body"))
    text, notes = _annotations(content, where, reading)
    listed = mapping(row.get("bibliography")) or content
    printed, entries = (text, notes) if listed is content else _annotations(listed, where, reading)
    references = _entries(printed, entries)
    cited = _Cited(text, notes.get("bibref", []), references)
    inside, heads = notes.get("abstract", []), notes.get("sectionheader", [])
    abstract, abstract_cited = compose(cited.within(start, end) for start, end, _ in inside)
    sections = [Section("", abstract, abstract_cited)] if abstract_cited else []
    bodies: dict[int, list[tuple[str, list[Mark]]]] = {}
    for start, end in _stretches(notes, len(text)):
        before = _at(inside, start)
        if before < 0 or start >= inside[before][1]:
            bodies.setdefault(_at(heads, start), []).append(cited.within(start, end))
    apart = {_at(heads, start) for start, _, _ in (*inside, *notes.get("bibentry", []))}  # headings over what is no section
    headings = Headings()
    for at in range(-1, len(heads)):
        body, citations = compose(bodies.get(at, ()))
        number, name = (string(heads[at][2].get("n")).rstrip("."), string(text[heads[at][0] : heads[at][1]])) if at >= 0 else ("", "")
        heading = headings.read(f"{number} {name}".strip(), number, body) if body or at not in apart else ""
        if body:
            sections.append(Section(heading, body, citations))
    captions, citations = compose(cited.within(start, end) for name in notes if name.endswith("caption") for start, end, _ in notes[name])
    if captions:
        sections.append(Section(CAPTIONS, captions, citations))
    if cited.left:
        reading.skip(where, f"{len(cited.left)} citations that stand in no paragraph")
    given = mapping(row.get("externalids")) or mapping(mapping(row.get("openaccessinfo")).get("externalids"))
    ids = {name.lower(): string(value) for name, value in given.items()}
    corpus = string(row.get("corpusid"))
    return Record(
        id=corpus,
        title=next((string(text[a:b]) for a, b, _ in notes.get("title", [])), "") or string(row.get("title")) or None,
        abstract="" if abstract_cited else abstract or string(row.get("abstract")),
        sections=tuple(sections),
        references=tuple(references.values()),
        authors=_authors(row.get("authors")) or _authors([text[a:b] for a, b, _ in notes.get("author", [])]),
        year=year_in(string(row.get("year"))),
        doi=ids.get("doi") or None,
        arxiv=ids.get("arxiv") or None,
        aliases=tuple(filter(None, (f"CorpusID:{corpus}", ids.get("acl"), ids.get("pubmedcentral")))),
        where=where,
        role="paper",
    )


class _Cited:
    """The citations of an annotated text, taken stretch by stretch; `left` are those that no stretch has held."""

    def __init__(self, text: str, spans: list[_Span], references: dict[str, Reference]) -> None:
        self.text, self.spans, self.references = text, spans, references
        self.left = set(range(len(spans)))
        self.keys = {reference.target: key for key, reference in references.items() if reference.target}

    def within(self, start: int, end: int) -> tuple[str, list[Mark]]:
        marks = []
        for at in range(bisect_left(self.spans, start, key=lambda s: s[0]), bisect_left(self.spans, end, key=lambda s: s[0])):
            if at in self.left and self.text[self.spans[at][0] : self.spans[at][1]].strip():
                self.left.discard(at)
                a, b, attributes = self.spans[at]
                marks.append(Mark(a - start, min(b, end) - start, key=self._key(attributes) or string(self.text[a : min(b, a + _LONG)])))
        return self.text[start:end], marks

    def _key(self, attributes: Mapping[str, Any]) -> str:
        key, target = string(attributes.get("ref_id")), string(attributes.get("matched_paper_id"))
        if key or not target:
            return key
        if target not in self.keys:  # matched to a paper although its entry was not found
            self.keys[target] = f"CorpusID:{target}"
            self.references[self.keys[target]] = Reference(self.keys[target], target=target)
        return self.keys[target]


def _annotations(part: Mapping[str, Any], where: str, reading: Reading) -> tuple[str, dict[str, list[_Span]]]:
    """The text, and for each name of an annotation its spans in order; the names without the underscores of the second version."""
    text, found, wrong = text_of(part.get("text")), {}, 0
    for name, value in mapping(part.get("annotations")).items():
        if isinstance(value, str):
            try:
                value = reading.json(value, f"{where}, annotation {name}")
            except DocumentError as error:
                reading.skip(where, str(error))
                continue
        spans = [(_offset(item.get("start")), _offset(item.get("end")), mapping(item.get("attributes"))) for item in rows(value)]
        good = [span for span in spans if 0 <= span[0] < span[1] <= len(text)]
        name = name.replace("_", "").lower()
        found[name] = sorted(good, key=lambda span: span[:2])
        if name != "bibref":  # else a file of a few bytes could stand for its text a thousand times
            done, apart = 0, []
            for span in found[name]:
                if span[0] >= done:
                    apart.append(span)
                    done = span[1]
            found[name] = apart
        wrong += len(spans) - len(found[name])
    if wrong:
        reading.skip(where, f"{wrong} annotations whose offsets do not fit the text, or that overlap another of their kind")
    return text, found


def _offset(value: object) -> int:
    number = string(value)
    return int(number) if number.isdecimal() and len(number) < 12 else -1


def _at(spans: list[_Span], place: int) -> int:
    """The last span that begins at a place or before it; -1 if there is none."""
    return bisect_right(spans, place, key=lambda span: span[0]) - 1


def _stretches(notes: Mapping[str, list[_Span]], size: int) -> list[tuple[int, int]]:
    """The text's paragraphs, and the formulas between them, in order."""
    entries = min((start for start, _, _ in notes.get("bibentry", [])), default=size)
    paragraphs = notes.get("paragraph") or _between(notes.get("sectionheader", []), entries)
    formulas = []
    for start, end, _ in notes.get("formula", []):
        before = _at(paragraphs, start)
        start = max(start, paragraphs[before][1]) if before >= 0 else start
        end = min(end, paragraphs[before + 1][0]) if before + 1 < len(paragraphs) else end
        formulas += [(start, end)] if start < end else []
    return sorted([*((start, end) for start, end, _ in paragraphs), *formulas])


def _between(heads: list[_Span], end: int) -> list[_Span]:
    """The stretches between headings, where no paragraphs are marked."""
    stops = [*(start for start, _, _ in heads[1:]), end]
    return [(head[1], stop, {}) for head, stop in zip(heads, stops, strict=True) if head[1] < stop] if heads else []


def _entries(text: str, notes: Mapping[str, list[_Span]]) -> dict[str, Reference]:
    references: dict[str, Reference] = {}
    for number, (start, end, attributes) in enumerate(notes.get("bibentry", [])):

        def parts(name: str, start: int = start, end: int = end) -> list[str]:
            spans = notes.get(name, [])
            low, high = (bisect_left(spans, place, key=lambda s: s[0]) for place in (start, end))
            return strings([text[a:b] for a, b, _ in spans[low:high]])

        key, printed = string(attributes.get("id")) or f"entry {number + 1}", string(text[start:end])
        while key in references:
            key += "'"
        references[key] = Reference(
            key=key,
            title=next(iter(parts("bibtitle")), None),
            authors=tuple(parts("bibauthor")),
            year=year_in(printed),
            doi=string(attributes.get("doi")) or printed,
            arxiv=arxiv_in(printed),
            text=printed,
            target=string(attributes.get("matched_paper_id")) or None,
        )
    return references
