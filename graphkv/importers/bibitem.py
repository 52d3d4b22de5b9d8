"""What a printed ``\\bibitem`` says: its title is guessed from how the styles set it, the rest is searched for."""

from __future__ import annotations

import re

from graphkv.importers.entry_text import Entry, plain, short_names, surname, year_of
from graphkv.importers.latex.scan import Scanner
from graphkv.importers.latex.text import put_literals
from graphkv.importers.record import Reference, normal_arxiv, normal_doi

_NATBIB = re.compile(r"(.+?)\s*\(([^()]{2,20})\)")
_AUTHOR_COMMA_YEAR = re.compile(r"(.+?),? (\d{4}[a-z]?)$")
_LAST_YEAR = re.compile(r"[\s,]{0,3}\(?\b((?:1[5-9]|20)\d\d)[a-z]?\)?[\s.,:]{0,5}$")
_INITIALS = re.compile(r"(?:[A-Z]{1,3}\.?[\s-]*|[A-Z][a-z]{0,2}\.[\s-]*)+")
_NAME_WORD = re.compile(r"[A-ZÀ-Þ][\w.’'-]*")
_PARTICLES = frozenset(("and", "van", "von", "der", "den", "de", "di", "la", "et", "al", "al."))
_NO_TITLE = re.compile(r"(?i)(?:in:? |https?:|doi\b|url\b|arxiv|available|10\.\d{4,9}/|isbn|issn|pages?\b|pp\.|vol(?:ume|\.)|to appear|[\d\W]+$)")
_JOURNAL = re.compile(r"(?i)\b(?:proc|proceedings|journal|j|phys|rev|lett|trans|transactions|ieee|acm|nature|science|annals|ann|bull|math|vol)\b\.?")
_OLD_ARXIV = re.compile(r"\b(?:hep-(?:th|ph|ex|lat)|astro-ph|gr-qc|cond-mat|quant-ph|math(?:-ph)?|nucl-(?:th|ex)|nlin|physics|cs|q-bio)(?:\.[A-Z]{2})?/\d{7}")
_DOI = re.compile(r"10\.\d{4,9}/[^\s{}\\\"<>]+")
_FIELD_OF_TITLE = re.compile(r"\\(?:bibinfo|bibfield)\s*\{(?:title|article|booktitle)\}\s*(?=\{)|\\showarticletitle\s*(?=\{)")
_FIELD_OF_AUTHOR = re.compile(r"\\bibinfo\s*\{(?:author|person)\}\s*(?=\{)")


def entry_of_item(key: str, label: str, latex: str, literals: list[str]) -> Entry:
    """An entry from its label (what stands in brackets behind ``\\bibitem``) and its text.

    Args:
        latex: clean. literals: what was put aside in it.

    Raises:
        DocumentError: it is nested too deep.
    """
    blocks = [block for block in re.split(r"\\newblock(?![A-Za-z])", latex) if block.strip()]
    texts = [plain(block, literals) for block in blocks] or [""]
    text = " ".join(filter(None, texts))
    source = put_literals(latex, literals).replace(r"\_", "_").replace(r"\%", "%")
    names, label_year = _label(label, literals)
    authors = _fields(_FIELD_OF_AUTHOR, latex, literals) or authors_in(_in_front_of_title(texts))
    in_front = _LAST_YEAR.search(texts[0])
    digits = re.match(r"\d{4}", label_year) or (in_front and re.match(r"\d{4}", in_front[1]))
    year = int(digits.group()) if digits else year_of(text)
    reference = Reference(
        key=key,
        title=_title(blocks, texts, latex, literals),
        authors=authors,
        year=year,
        doi=next((doi for found in _DOI.findall(source) if (doi := normal_doi(found))), None),
        arxiv=_arxiv(source),
        text=text,
    )
    return Entry(reference, names or short_names([surname(author) for author in authors]), label_year or str(year or ""))


def _label(label: str, literals: list[str]) -> tuple[str, str]:
    """Names and year of a label of an author-year style; empty for numbers and the like."""
    if r"\citeauthoryear" in label:
        scanner = Scanner(label[label.index(r"\citeauthoryear") + len(r"\citeauthoryear") :])
        parts: list[str] = []
        while scanner.group_ahead():
            parts.append(plain(scanner.argument(), literals))
        return (parts[-2], parts[-1]) if len(parts) > 1 else ("", "")
    text = plain(label, literals)
    found = _NATBIB.match(text) or _AUTHOR_COMMA_YEAR.fullmatch(text)
    if not found or not re.search(r"[^\W\d_]{2}", found[1]):
        return "", ""
    return found[1].strip(" ,"), found[2].strip()


def _fields(pattern: re.Pattern[str], latex: str, literals: list[str]) -> tuple[str, ...]:
    """The texts of the groups behind each place that matches."""
    found = (plain(Scanner(latex[match.end() : match.end() + 2000]).argument(), literals).strip(" ,.") for match in pattern.finditer(latex))
    return tuple(filter(None, found))


def _title(blocks: list[str], texts: list[str], latex: str, literals: list[str]) -> str | None:
    named = _fields(_FIELD_OF_TITLE, latex, literals)
    if named:
        return named[0]
    for text in texts[:2]:
        quoted = re.search(r"(?:^|[\s,.])[“\"]([^“”\"]{8,400}?)[.,;]?[”\"]", text)
        if quoted and (text is texts[0] or quoted.start() == 0):
            return quoted[1].strip(" ,.")
    for text in texts[1:3]:
        if not _NO_TITLE.match(text):
            return re.split(r"\.\s+(?:In:? [A-Z]|https?:|doi:|arXiv|10\.\d{4})", text)[0].strip(" ,.") or None
    first = texts[0]
    if colon := re.match(r"(?:[^:.]|\.(?=[,\s:-]|[A-Z]\.)){3,600}?: ([^.?!]{8,400}[.?!])", first):  # Springer: "Lo, K., Wang, L.: Title. Venue"
        return colon[1].strip(" ,.")
    parts = first.split(", ")
    for part in parts[_names_in(parts) :][:1]:  # Elsevier: "K. Lo, L. Wang, Title of it, Venue 3 (2020)"
        if len(part.split()) >= 3 and not _NO_TITLE.match(part) and not _JOURNAL.match(part) and not re.search(r"\d{2}", part):
            return part.split(". ")[0].strip(" ,.")
    emphasised = re.search(r"\\(?:emph|textit)\s*(?=\{)|\{\\(?:em|it)(?![A-Za-z])", latex)
    if emphasised and len(blocks) == 1:
        text = plain(Scanner(latex[emphasised.start() if latex[emphasised.start()] == "{" else emphasised.end() :]).argument(), literals).strip(" ,.")
        if len(text.split()) >= 3 and not _JOURNAL.search(text):
            return text
    return None


def _names_in(parts: list[str]) -> int:
    """How many parts of an entry, from its start, are names."""
    for number, part in enumerate(parts):
        words = part.split()
        if not words or len(words) > 7 or not all(word in _PARTICLES or _NAME_WORD.fullmatch(word) for word in words):
            return number
    return len(parts)


def _in_front_of_title(texts: list[str]) -> str:
    """The part of an entry in which its authors are."""
    first = texts[0]
    if len(texts) > 1 and _LAST_YEAR.search(first):
        return _LAST_YEAR.sub("", first)
    if quoted := re.match(r"([^“\"]+?)[,.:]?\s*[“\"]", first):
        return quoted[1]
    if colon := re.match(r"((?:[^:.]|\.(?=[,\s:-]|[A-Z]\.)){3,600}?): ", first):
        return colon[1]
    parts = first.split(", ")
    count = _names_in(parts)
    return ", ".join(parts[:count]) if count else first if len(texts) > 1 else ""


def authors_in(text: str) -> tuple[str, ...]:
    """Names in reading order from a list of them; empty if it does not read like one.

    Example:
        >>> authors_in("Ahmad, R., Afzal, M. T. and Lo, K."), authors_in("Iz Beltagy, Kyle Lo, and Arman Cohan")
        (('R. Ahmad', 'M. T. Afzal', 'K. Lo'), ('Iz Beltagy', 'Kyle Lo', 'Arman Cohan'))
    """
    text = re.sub(r"\(?\bet al\b\.?\)?|\([^()]*\)|\b[Ee]ds?\b\.?|\beditors?\b|\bothers\b", " ", text)
    pieces = [piece.strip(" ;.") + ("." if re.search(r"\b[A-Z]\.$", piece.strip()) else "") for piece in re.split(r",\s*and\s|\sand\s|&|;|,", text)]
    pieces = [" ".join(piece.split()) for piece in pieces if piece.strip(" .")]
    names: list[str] = []
    for piece in pieces:
        if names and len(piece) < 15 and _INITIALS.fullmatch(piece) and not _INITIALS.fullmatch(names[-1][:15]) and " " not in names[-1].split("van ")[-1].split("de ")[-1]:
            names[-1] = f"{piece} {names[-1]}"
        elif piece in ("Jr.", "Jr", "Sr.", "II", "III") and names:
            names[-1] += f" {piece}"
        else:
            names.append(piece)
    likely = all(len(name.split()) <= 6 and not re.search(r"\d|[!?:/]", name) and name[:1].isalpha() for name in names)
    return tuple(names) if likely else ()


def _arxiv(source: str) -> str | None:
    for found in re.finditer(r"(?i)arxiv|\babs/", source):
        if identifier := normal_arxiv(source[found.start() : found.start() + 60].replace("abs/", " ").replace("{", " ")):
            return identifier
    old = _OLD_ARXIV.search(source)
    return normal_arxiv(old.group()) if old else None
