"""Entries of bibliographies, whatever file they come from: LaTeX fields as text, names, what a citation prints."""

from __future__ import annotations

import re
from dataclasses import dataclass

from graphkv.importers.latex.clean import clean
from graphkv.importers.latex.commands import commands
from graphkv.importers.latex.macros import Definitions, Expander
from graphkv.importers.latex.numbers import Numbers
from graphkv.importers.latex.text import put_literals, tidy, to_text
from graphkv.importers.record import Reference

_YEAR = re.compile(r"(?<![\d/.:-])(1[5-9]\d\d|20\d\d)(?![\d/:-]|\.\d)")
_MARKED_UP = re.compile(r"[\\$%~&`]|--|''|\{{20}")


@dataclass(frozen=True)
class Entry:
    """An entry of a bibliography.

    Attributes:
        names, year: what an author-year citation prints ("Lo et al.", "2020a"); empty if it is not known.
        abstract: if the entry holds one. cites: keys of the entries that it names itself. venue: the journal or the book. kind: its type.
        aliases: other keys of the same entry.
    """

    reference: Reference
    names: str = ""
    year: str = ""
    abstract: str = ""
    cites: tuple[str, ...] = ()
    venue: str = ""
    kind: str = ""
    aliases: tuple[str, ...] = ()


def plain(latex: str, literals: list[str] | None = None) -> str:
    """A field's LaTeX as one line of text.

    Args:
        literals: if `latex` is clean already, what was put aside, see :func:`graphkv.importers.latex.clean.clean`.

    Raises:
        DocumentError: it is nested too deep.

    Example:
        >>> plain(r"{{\\'E}}tude of   \\emph{NP}--hard {\\TeX}")
        'Étude of NP–hard TeX'
    """
    if not _MARKED_UP.search(latex) and not literals:
        return " ".join(latex.replace("{", "").replace("}", "").split())
    aside: list[str] = [] if literals is None else literals
    source = latex if literals is not None else clean(latex, aside)
    definitions = Definitions()
    numbers = Numbers()
    source = Expander(source, commands(aside, definitions, numbers), lambda what: None, definitions=definitions).expand()
    text = tidy(to_text(re.sub("[\ue004\ue005]", "", numbers.resolve(source)), "an entry of a bibliography"))
    return " ".join(put_literals(text, aside).split())


def year_of(text: str) -> int | None:
    """The last year between 1500 and 2099 that stands in `text` by itself.

    Example:
        >>> year_of("In 1984 Revisited. Proc. of X 2010, pages 2001--2010."), year_of("doi:10.1/2010")
        (2010, None)
    """
    found = _YEAR.findall(re.sub(r"(?i)pages?\s+[\d–-]+|pp?\.\s*[\d–-]+|(?<!\d)\d{1,6}\s?(?:–|--)\s?\d{1,6}", " ", text))
    return int(found[-1]) if found else None


def surname(name: str) -> str:
    """The family name, with what stands in front of it.

    Example:
        >>> surname("Laurens van der Maaten"), surname("Lo, Kyle")
        ('van der Maaten', 'Lo')
    """
    from bibtexparser.middlewares.names import parse_single_name_into_parts

    parts = parse_single_name_into_parts(name, strict=False)
    return " ".join([*parts.von, *parts.last]) or name


def full_name(name: str) -> str:
    """A BibTeX name in reading order.

    Example:
        >>> full_name("Maaten, Laurens van der"), full_name("{Simon and Schuster}")
        ('Laurens van der Maaten', '{Simon and Schuster}')
    """
    from bibtexparser.middlewares.names import parse_single_name_into_parts

    parts = parse_single_name_into_parts(name, strict=False)
    return " ".join([*parts.first, *parts.von, *parts.last, *parts.jr]) or name


def short_names(surnames: list[str]) -> str:
    """Authors as a citation names them.

    Example:
        >>> short_names(["Saier", "Färber"]), short_names(["Lo", "Wang", "Neumann"])
        ('Saier and Färber', 'Lo et al.')
    """
    if len(surnames) > 2 or (surnames and surnames[-1].lower() in ("others", "et al.")):
        return f"{surnames[0]} et al."
    return " and ".join(surnames)
