"""The front matter of a Markdown file: its title, aliases and tags, and nothing else of YAML."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class FrontMatter:
    """What the lines between ``---`` say."""

    title: str | None = None
    aliases: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


def split_front_matter(text: str) -> tuple[FrontMatter, str]:
    """Front matter, and the text behind it; everything is text if the file does not begin with front matter.

    Keys other than title, aliases (alias) and tags (tag) are passed over, and so are values that are not words or lists of words.

    Example:
        >>> split_front_matter("---\\ntitle: 'Graphs'\\ntags: [maths, drawing]\\n---\\nText")
        (FrontMatter(title='Graphs', aliases=(), tags=('maths', 'drawing')), 'Text')
    """
    found = re.match(r"---[ \t]*\n(.*?)^(?:---|\.\.\.)[ \t]*(?:\n|\Z)", text, re.DOTALL | re.MULTILINE)
    if not found:
        return FrontMatter(), text
    values: dict[str, list[str]] = {}
    key = ""
    for line in found.group(1).split("\n"):
        if entry := re.match(r"([\w-]+)[ \t]*:(?:[ \t]+|$)(.*)", line):
            key = entry.group(1).lower()
            values[key] = _words(entry.group(2).strip())
        elif (entry := re.match(r"[ \t]*-[ \t]+(.*)", line)) and key:
            values[key].append(_word(entry.group(1)))
    title = " ".join(values.get("title", [])[:1]) or None
    aliases, tags = (tuple(v for name in names for v in values.get(name, []) if v) for names in (("aliases", "alias"), ("tags", "tag")))
    return FrontMatter(title, aliases, tags), text[found.end() :]


def _words(value: str) -> list[str]:
    if value.startswith("[") and value.endswith("]"):
        return [_word(part) for part in re.findall(r"""\s*("[^"]*"|'[^']*'|[^,]+)\s*,?""", value[1:-1])]
    return [_word(value)] if value and value[0] not in "[{|>&*!" else []


def _word(value: str) -> str:
    quoted = re.fullmatch(r"""("[^"]*"|'[^']*')(\s+#.*)?""", value.strip())
    return quoted.group(1)[1:-1] if quoted else re.sub(r"\s#.*", "", value).strip()
