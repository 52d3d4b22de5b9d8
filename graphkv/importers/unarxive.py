"""unarXive: papers from arXiv's LaTeX sources, with markers in the text for citations, formulas, figures and tables."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any

from graphkv.errors import DocumentError
from graphkv.importers.compose import CAPTIONS, Mark, compose
from graphkv.importers.json_values import mapping, rows, string, strings, text_of
from graphkv.importers.printed import arxiv_in, year_in
from graphkv.importers.reading import Reading
from graphkv.importers.record import Item, Record, Reference, Section, normal_title

_MARKER = re.compile(r"\{\{(cite|formula|figure|table):([^{}]*)\}\}(?:[ \xa0]+(?=[.,;:)\]]|-\w))?")  # a marker leaves a space behind it
_FIGURE = re.compile(r"\{\{(figure|table):([^{}]*)\}\}")
_LONG = 300  # characters; what is longer is written out once
_LONGEST = 20_000  # characters; longer metadata is not read as LaTeX
_KEPT = ("discipline", "categories", "license")

Paragraph = tuple[str, list[Mark]]


def matches(row: Mapping[str, Any]) -> bool:
    """Whether a row is a paper of unarXive."""
    body = row.get("body_text")
    if "paper_id" not in row or not isinstance(body, list) or not isinstance(row.get("bib_entries"), Mapping):
        return False
    return "_source_name" in row or (bool(body) and isinstance(body[0], Mapping) and "content_type" in body[0])


def read(row: Mapping[str, Any], where: str, reading: Reading) -> Iterator[Item]:
    """The paper in a row. A citation reads ``[n]``, n its entry's place in the bibliography; a formula stands in dollars.

    Raises:
        DocumentError: the row has no id, or no title, text and references.
    """
    id, metadata = string(row.get("paper_id")), mapping(row.get("metadata"))
    entries, places = mapping(row.get("bib_entries")), mapping(row.get("ref_entries"))
    floats = {key: mapping(place) for key, place in places.items() if mapping(place).get("type") in ("figure", "table")}
    numbers = {key: number for number, key in enumerate(entries, start=1)}

    shown: set[str] = set()

    def paragraph(text: object) -> Paragraph:
        return _marked(text_of(text), numbers, places, shown)

    sections, used = [], set()
    for heading, members in itertools.groupby(rows(row.get("body_text")), key=_heading):
        texts = [text_of(member.get("text")) for member in members]
        used |= {id for text in texts for _, id in _FIGURE.findall(text)}
        body, citations = compose(map(paragraph, map(_list_option.sub, itertools.repeat(""), texts)))
        if body:
            sections.append(Section(compose([paragraph(heading)])[0], body, citations))
    unplaced = [place for key, place in floats.items() if key not in used and len(_caption(place).split()) > 2]
    left = [f"{string(place.get('type')).capitalize()}: {_caption(place)}" for place in unplaced]
    captions, citations = compose(map(paragraph, left))
    if captions:
        sections.append(Section(CAPTIONS, captions, citations))
    abstract, cited = compose([paragraph(_from_latex(_abstract(row), where, reading, keep_formulas=True))])
    given = metadata.get("authors_parsed")
    parsed = [name for name in (given if isinstance(given, list) else []) if isinstance(name, list)]
    authors = [" ".join(strings([*name[1:2], *name[:1], *name[2:]])) for name in parsed]
    named = re.split(r",\s+(?:and\s+)?|\s+and\s+", _from_latex(string(metadata.get("authors")), where, reading))
    record = Record(
        id=id,
        title=_from_latex(string(metadata.get("title")), where, reading) or None,
        abstract="" if cited else abstract,
        sections=(*([Section("", abstract, cited)] if cited else []), *sections),
        references=tuple(_reference(key, mapping(entry)) for key, entry in entries.items()),
        authors=tuple(filter(None, authors or named)),
        doi=string(metadata.get("doi")) or None,
        arxiv=id,
        where=where,
        role="paper",
        metadata={key: value for key in _KEPT if (value := string(row.get(key)) or string(metadata.get(key)))},
    )
    if not id:
        raise DocumentError(f"{where}: expected a paper_id, got none")
    if not (record.title or record.size or record.references):
        raise DocumentError(f"{where}: paper {id!r} has no title, no text and no references")
    yield record


_list_option = re.compile(r"^\s*\[[^\]\n]*=[^\]\n]*\]")  # what stands behind \begin{itemize}


def _heading(paragraph: Mapping[str, Any]) -> str:
    """The heading with its number. The number of a subsection that counts from 1 again says little, and is left out."""
    name, number = string(paragraph.get("section")), string(paragraph.get("sec_number"))
    known = re.fullmatch(r"[A-Z\d]+(?:\.\d+)*", number) and (paragraph.get("sec_type") == "section" or "." in number)
    return f"{number} {name}" if known and name else name


def _marked(text: str, numbers: Mapping[str, int], places: Mapping[str, Any], shown: set[str]) -> Paragraph:
    """The text, captions put in, with a mark for each marker that says what is to be read there. What is long is written out once."""
    text = _FIGURE.sub(lambda found: _float(_once(places, found[2], shown), found[1]), re.sub(r"\bREF +(?=[.,;:)\]])", "REF", text))
    marks = []
    for found in _MARKER.finditer(text):
        kind, key = found[1], found[2].strip()
        if kind == "cite":
            glued = found.start() > 0 and (text[found.start() - 1].isalnum() or text[found.start() - 1] == "}")
            marks.append(Mark(found.start(), found.end(), key=key, text=f"{' ' if glued else ''}[{numbers.get(key, '?')}]"))
        else:
            latex = re.sub(r"\\(?:nonumber|notag)\b ?", "", string(_once(places, key, shown).get("latex"))) if kind == "formula" else ""
            marks.append(Mark(found.start(), found.end(), text=f"${latex}$" if latex else f"[{kind}]"))
    return text, marks


def _once(places: Mapping[str, Any], key: str, shown: set[str]) -> Mapping[str, Any]:
    """What a marker stands for; nothing if it is long and was read before, or a small file could grow without bound."""
    place = mapping(places.get(key))
    if len(string(place.get("caption")) + string(place.get("latex"))) > _LONG:
        if key in shown:
            return {}
        shown.add(key)
    return place


def _caption(place: Mapping[str, Any]) -> str:
    caption = string(place.get("caption"))
    return "" if caption == "NO_CAPTION" else caption


def _float(place: Mapping[str, Any], kind: str) -> str:
    """A figure or table as a paragraph of its own."""
    caption = _FIGURE.sub("", _caption(place))
    return f"\n\n[{kind.capitalize()}{': ' if caption else ''}{caption}]\n\n"


def _abstract(row: Mapping[str, Any]) -> str:
    found = row.get("abstract")
    parts = [text_of(part.get("text")) for part in rows(found if isinstance(found, list) else [found])]
    return "\n\n".join(filter(None, parts)) or text_of(mapping(row.get("metadata")).get("abstract"))


def _from_latex(text: str, where: str, reading: Reading, *, keep_formulas: bool = False) -> str:
    """arXiv's metadata as text: ``F\\"arber`` is Färber; the percent sign, which arXiv does not escape, stays."""
    if not re.search(r"[\\${}~]|``|''", text):
        return text
    if len(text) > _LONGEST:
        reading.note(where, f"LaTeX of {len(text):,} characters in the title, authors or abstract; left as it stands")
        return text
    from pylatexenc.latex2text import LatexNodes2Text
    from pylatexenc.latexwalker import LatexWalkerError

    markers = [found.group() for found in _MARKER.finditer(text)]
    source = re.sub(r"(?<!\\)%", r"\\%", _MARKER.sub("\ue000", text))
    source = re.sub(r"(?<![^\s(])~(?=\$?\d)", r"\\textasciitilde{}", source)
    try:
        plain = str(LatexNodes2Text(math_mode="verbatim" if keep_formulas else "text", strict_latex_spaces=False).latex_to_text(source))
    except (LatexWalkerError, RecursionError):
        reading.note(where, "LaTeX in the title, authors or abstract that cannot be read; left as it stands")
        return text
    return re.sub("\ue000", lambda _: markers.pop(0) if markers else "", plain).strip()


def _reference(key: str, entry: Mapping[str, Any]) -> Reference:
    printed, ids = string(entry.get("bib_entry_raw")), mapping(entry.get("ids"))
    links = " ".join(string(link.get("url")) for link in rows(entry.get("contained_links")))
    contained = next((string(found.get("id")) for found in rows(entry.get("contained_arXiv_ids"))), "")
    return Reference(
        key=key,
        title=title_in(printed),
        year=year_in(printed),
        doi=string(ids.get("doi")) or links or printed,
        arxiv=string(ids.get("arxiv_id")) or contained or arxiv_in(f"{printed} {links}"),
        text=printed,
    )


# The title in a printed entry. Better none than a wrong one: an entry without one still has its text.

_QUOTED = re.compile(r"[“\"]\s*([^“”\"]{10,300}?)[,.]?\s*[,.]?\s*[”\"]")
_SPRINGER = re.compile(r"([^:]{5,1500}\.(?:, et al\.)?): ?([^:].{10,300}?)(?:\. | \((?:19|20)\d\d\)|[?!] (?=In: ))")
_ELSEVIER = re.compile(r"(?:(?:[A-ZÀ-Þ]\.[ -]?){1,4}(?:[a-z]+ )?[\w'’-]+, ){1,80}(?:et al\., )?(.{10,300}?), in: ")
_APA = re.compile(r"\((?:1[5-9]|20)\d\d[a-z]?\)\.? ([^.?!]{10,300})[.?!](?: |$)")
_SENTENCE = re.compile(r"(?<=[^\W\d_]{2})(?<!\beds)(?<!\bed)[.?!] (?=[\"“]?[A-ZÀ-Þ\d]|arXiv)")
_NO_TITLE = re.compile(r"(?i)(?:in|arxiv|doi|phys|proc|journal|proceedings|preprint|eds?)\b")
_PARTICLES = {"and", "et", "al", "&", "de", "del", "della", "van", "von", "der", "den", "di", "da", "la", "le", "du", "dos", "ter"}


def title_in(entry: str) -> str | None:
    """The title in an entry of a bibliography in one of the usual styles; None unless it is plain where it begins and ends.

    Example:
        >>> title_in("J. Lin and K. Lo. Why graphs are read. In NAACL, 2018.")
        'Why graphs are read'
        >>> title_in("E. M. Riordan, Science 256, 1287 (1992).") is None
        True
    """
    if len(entry) > 2000 or re.match(r"[“\"]?\s*https?:", entry):
        return None
    if found := _QUOTED.search(entry) or _ELSEVIER.match(entry):
        return _title(found[1], least=2)
    if (found := _SPRINGER.match(entry)) and _names(found[1]):
        return _title(found[2], least=2)
    if found := _APA.search(entry):
        return _title(found[1])
    parts = _SENTENCE.split(entry, maxsplit=2)
    if len(parts) == 3 and _names(parts[0]):
        return _title(parts[1])
    return None


def _names(text: str) -> bool:
    """Whether `text` could be a list of names: at least two words, each with a capital letter or one that stands between names."""
    words = text.split()
    capital = re.compile(r"[\w'’.-]+,?")
    return len(words) > 1 and all(word.strip(",.") in _PARTICLES or (word[0].isupper() and capital.fullmatch(word)) for word in words)


def _title(text: str, least: int = 3) -> str | None:
    """`text`, if it has at least so many words, and looks like the title of a work and not like a journal, names or an address."""
    text = text.strip(" ,.;:“”\"'`")
    words = text.split()
    if len(words) < least or len(words[-1]) < 2 or "http" in text or _NO_TITLE.match(text):
        return None
    names = _names(text) and ("," in text or len(words) < 4)
    return text if normal_title(text) and (least == 2 or not names) else None
