"""LaTeX papers: the main file with all that it includes, its sections, its in-text citations and its bibliography."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from graphkv.errors import DocumentError
from graphkv.importers.latex.algorithms import with_lines
from graphkv.importers.latex.bibliography import bibliography
from graphkv.importers.latex.cite import Mention, Mentions
from graphkv.importers.latex.commands import commands, with_citations
from graphkv.importers.latex.corpus import Corpus
from graphkv.importers.latex.files import join
from graphkv.importers.latex.front import authors, names
from graphkv.importers.latex.macros import Definitions, Expander
from graphkv.importers.latex.marks import MENTION, NUMBERED
from graphkv.importers.latex.numbers import Numbers
from graphkv.importers.latex.parts import Parts, split
from graphkv.importers.latex.text import put_literals, tidy, to_text
from graphkv.importers.reading import Reading
from graphkv.importers.record import Citation, Record, Section

_LISTED = 10


def read(path: Path, root: Path, reading: Reading) -> Iterator[Record]:
    r"""The paper whose main file `path` is; nothing for a file that is a part of another one.

    Args:
        path: a .tex file. root: nothing outside of it is read. reading: included files and bibliographies are claimed.

    Raises:
        DocumentError: the file cannot be read, is nested too deep, has macros that grow without bound, or holds no text.

    Example:
        >>> list(read(Path("papers/2004.10706/main.tex"), Path("papers"), Reading()))  # doctest: +SKIP
    """
    corpus = Corpus.of(root, reading)
    whole = corpus.is_main(path)
    if not whole and corpus.belongs_elsewhere(path):
        reading.note(str(path), "a part of another file; read with it")
        return
    source = join(path, root, reading)
    references = bibliography(path, root, source, reading)
    mentions = Mentions(references)
    definitions, numbers = Definitions(), Numbers()
    table, protected = with_citations(commands(source.literals, definitions, numbers), mentions.commands())
    try:
        expander = Expander(with_lines(source.text), table, lambda what: reading.note(str(path), what), protected, definitions)
        expanded = expander.expand()
    except DocumentError as error:
        raise DocumentError(f"{path}: {error}") from None
    if mentions.unreadable:
        reading.skip(str(path), f"{mentions.unreadable} keys of citations that cannot be keys; is a brace missing?")
    parts = split(numbers.resolve(expanded), whole)
    writer = _Writer(str(path), source.literals, mentions.found, expander.unknown)
    sections = writer.sections(parts.sections)
    abstract, cited = writer.text(parts.abstract)
    if cited:  # a section without heading stands in the paper's head, with its citations
        if sections and not sections[0].heading:
            first, *rest = sections
            shift = len(abstract) + 2
            cited = (*cited, *(Citation(c.start + shift, c.end + shift, c.key) for c in first.citations))
            abstract, sections = f"{abstract}\n\n{first.text}", tuple(rest)
        sections = (Section("", abstract, cited), *sections)
        abstract = ""
    if not abstract and not sections:
        raise DocumentError(f"{path} holds no text: expected a paper or a part of one")
    if not whole:
        reading.note(str(path), "included by no paper; read as one of its own")
    front = _record(path, root, parts, writer, reading)
    if unknown := writer.unknown:
        listed = ", ".join(f"\\{name} ({count})" for name, count in unknown.most_common(_LISTED))
        reading.note(str(path), f"{len(unknown)} macros that nothing defines print nothing: {listed}{' ...' if len(unknown) > _LISTED else ''}")
    yield replace(front, abstract=abstract, sections=sections, references=references.references())


class _Writer:
    """LaTeX to text with citations, for one paper."""

    def __init__(self, where: str, literals: list[str], mentions: list[Mention], unknown: Counter[str]) -> None:
        self._where, self._literals, self._mentions, self.unknown = where, literals, mentions, unknown

    def text(self, latex: str) -> tuple[str, tuple[Citation, ...]]:
        """Text, and where the citations stand in it."""
        marked = tidy(to_text(latex, self._where, self.unknown))
        pieces: list[str] = []
        citations: list[Citation] = []
        at = length = 0
        for found in NUMBERED[MENTION].finditer(marked):
            mention = self._mentions[int(found[1])]
            piece = put_literals(marked[at : found.start()], self._literals)
            length += len(piece)
            citations.append(Citation(length, length + len(mention.text), mention.key))
            pieces += [piece, mention.text]
            length += len(mention.text)
            at = found.end()
        text = "".join([*pieces, put_literals(marked[at:], self._literals)])
        indent = len(text) - len(text.lstrip())  # verbatim text may begin with any
        return text.strip(), tuple(Citation(c.start - indent, c.end - indent, c.key) for c in citations)

    def line(self, latex: str) -> str:
        """Text in one line."""
        return " ".join(self.text(latex)[0].split())

    def sections(self, parts: list[tuple[int, str, str]]) -> tuple[Section, ...]:
        """Sections that have text; the heading of one that has none stands in front of the first one below it."""
        made: list[Section] = []
        waiting: list[tuple[int, str]] = []
        for level, title, body in parts:
            heading, in_heading = self.text(title)
            heading = " ".join(heading.split())
            text, citations = self.text(body)
            waiting = [(above, name) for above, name in waiting if above < level]
            if in_heading:  # a heading cannot hold them
                text = f"{heading}\n\n{text}".strip()
                shift = len(heading) + 2
                citations = (*in_heading, *(Citation(c.start + shift, c.end + shift, c.key) for c in citations))
            if not text:
                waiting.append((level, heading))
                continue
            made.append(Section(": ".join(filter(None, [*(name for _, name in waiting), heading])), text, citations))
            waiting = []
        return tuple(made)


def _record(path: Path, root: Path, parts: Parts, writer: _Writer, reading: Reading) -> Record:
    """What the paper's front says of it."""
    id, aliases, arxiv = names(path, root, reading)
    date = re.search(r"(?<!\d)(?:19|20)\d\d(?!\d)", writer.line(parts.date))
    return Record(
        id=id,
        title=writer.line(parts.title) or None,
        authors=authors([writer.text(author)[0] for author in parts.authors]),
        year=int(date.group()) if date else None,
        doi=writer.line(parts.doi) or None,
        arxiv=arxiv,
        aliases=aliases,
        where=str(path),
        role="paper",
    )
