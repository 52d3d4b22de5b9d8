"""Markdown: a file is a page with sections by its headings, and links or wiki links to other pages."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphkv.importers.front_matter import split_front_matter
from graphkv.importers.html_text import parse, walk
from graphkv.importers.links import slug
from graphkv.importers.pages import Page
from graphkv.importers.reading import Reading
from graphkv.importers.record import Item

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.rules_block import StateBlock
    from markdown_it.rules_inline import StateInline
    from markdown_it.token import Token

MAX_NESTING = 100
"""Blocks within blocks; markdown-it leaves out what stands deeper."""

_WIKI_LINK = re.compile(r"(!?)\[\[([^\[\]\n]+)\]\]")
_MATHEMATICS = re.compile(r"\$\$(?:[^$\\]|\\.|\$(?!\$))+\$\$|(?<![A-Za-z])\$(?!\s)(?:[^$\\]|\\.)+(?<!\s)\$(?!\d)", re.DOTALL)  # not US$
_COMMENT = re.compile(r"(?<!\d)%%.*?%%", re.DOTALL)  # not 5%%


def read(path: Path, root: Path, reading: Reading) -> Iterator[Item]:
    """One record: CommonMark with tables, ``[[wiki links]]``, ``$mathematics$``, and front matter with title, aliases and tags.

    Its title is that of the front matter, or its only heading of level 1 if it begins with that, or else the file's name.
    Sections have the anchors that GitHub gives them. Obsidian's ``%%comments%%`` are not read.

    Raises:
        DocumentError: the file is not text, or holds neither text nor a title.
    """
    about, text = split_front_matter(reading.text(path))
    page = Page(path, root, reading)
    tokens = _parser().parse(text)
    if any(token.level >= MAX_NESTING - 1 for token in tokens):
        reading.skip(str(path), f"what is nested deeper than {MAX_NESTING} blocks")
    _Walk(page, str(path)).blocks(tokens)
    yield page.record(title=about.title, aliases=about.aliases, metadata={"tags": list(about.tags)} if about.tags else None)


def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"maxNesting": MAX_NESTING}).enable("table")
    parser.inline.ruler.before("link", "wiki_link", _wiki_link)
    parser.inline.ruler.before("escape", "mathematics", _mathematics)
    parser.inline.ruler.before("escape", "comment", _comment)
    parser.block.ruler.before("fence", "between_marks", _between_marks, {"alt": ["paragraph", "reference", "blockquote", "list"]})
    return parser


def _wiki_link(state: StateInline, silent: bool) -> bool:
    """A rule of markdown-it: ``[[Note]]`` is one token."""
    found = _WIKI_LINK.match(state.src, state.pos, state.posMax)
    if not found:
        return False
    if not silent:
        token = state.push("wiki_link", "", 0)
        token.markup, token.content = found.groups()
    state.pos = found.end()
    return True


def _mathematics(state: StateInline, silent: bool) -> bool:
    """A rule of markdown-it: ``$x$`` and ``$$x$$`` are text as they stand, told from prices as pandoc does it."""
    found = _MATHEMATICS.match(state.src, state.pos, state.posMax)
    if not found:
        return False
    if not silent:
        state.push("text", "", 0).content = found.group()
    state.pos = found.end()
    return True


def _comment(state: StateInline, silent: bool) -> bool:
    """A rule of markdown-it: ``%%x%%`` is nothing."""
    found = _COMMENT.match(state.src, state.pos, state.posMax)
    if not found:
        return False
    state.pos = found.end()
    return True


def _between_marks(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """A rule of markdown-it: lines from one that begins with ``$$`` to one that ends with it are one token, and so with ``%%``; only those may be empty."""
    first = state.src[state.bMarks[start] + state.tShift[start] : state.eMarks[start]].rstrip()
    mark = first[:2]
    if mark not in ("$$", "%%") or state.is_code_block(start):
        return False
    line, rest = start, first[2:]
    while mark not in rest:
        line += 1
        if line >= end or (mark == "$$" and state.isEmpty(line)) or (state.sCount[line] < state.blkIndent and not state.isEmpty(line)):
            return False
        rest = state.src[state.bMarks[line] + state.tShift[line] : state.eMarks[line]].rstrip()
    if rest.index(mark) != len(rest) - 2:  # text follows: the rules for running text see to it
        return False
    if not silent:
        state.line = line + 1
        token = state.push("mathematics" if mark == "$$" else "comment", "", 0)
        token.content = state.getLines(start, state.line, state.sCount[start], False)
        token.map = [start, state.line]
    return True


class _Walk:
    """Tokens in order, each into the page."""

    def __init__(self, page: Page, where: str) -> None:
        self.page, self.where = page, where
        self.slugs: Counter[str] = Counter()
        self.lists = 0  # that are open
        self.cells = 0  # of the row, so far
        self.href = ""
        self.words = ""  # of the last block; pictures have none, as on GitHub
        self.tags: list[bool] = []  # for each <a> that is open: is it a link

    def blocks(self, tokens: Sequence[Token]) -> None:
        """The blocks of a file."""
        for token in tokens:
            prose = self.page.prose
            match token.type:
                case "heading_open" if token.level == 0:
                    self.page.begin_heading(int(token.tag[1:]))
                case "heading_close" if token.level == 0:
                    self._end_heading()
                case "inline":
                    self.inline(token.children or [])
                    self.words = "".join(c.content if c.type in ("text", "code_inline", "wiki_link") else " " if c.type == "softbreak" else "" for c in token.children or [])
                case "fence" | "code_block":
                    prose.block()
                    prose.verbatim(f"```{token.info.strip()}\n{token.content.rstrip()}\n```")
                    prose.block()
                case "mathematics":
                    prose.block()
                    prose.verbatim(token.content.rstrip())
                    prose.block()
                case "html_block":
                    prose.block()
                    self._html(token.content)
                    self.page.prose.block()
                case "bullet_list_open" | "ordered_list_open":
                    prose.line()
                    self.lists += 1
                case "bullet_list_close" | "ordered_list_close":
                    self.lists -= 1
                    prose.line() if self.lists else prose.block()
                case "list_item_open":
                    prose.item("  " * (self.lists - 1) + (f"{token.info}. " if token.info else "- "))
                case "list_item_close":
                    prose.end_item()
                case "tr_open":
                    prose.line()
                    self.cells = 0
                case "th_open" | "td_open":
                    prose.words(" | " if self.cells else "")
                    self.cells += 1
                case "paragraph_open" | "paragraph_close" if token.hidden:  # of a list without empty lines
                    prose.line()
                case "paragraph_open" | "table_open" | "table_close" | "blockquote_open" | "blockquote_close" | "hr" | "heading_open" | "heading_close":
                    prose.block()

    def inline(self, tokens: Sequence[Token]) -> None:
        """What stands within a block."""
        for token in tokens:
            prose = self.page.prose
            match token.type:
                case "text" | "code_inline":
                    prose.words(token.content)
                case "softbreak":
                    prose.words(" ")
                case "hardbreak":
                    prose.line()
                case "image":
                    self.inline(token.children or [])
                case "link_open":
                    self.href = str(token.attrGet("href") or "")
                    prose.open(self.page.links.key(self.href))
                case "link_close":
                    prose.close(empty=self.href)
                case "wiki_link":
                    key, words = self.page.links.wiki(token.content, embedded=token.markup == "!")
                    prose.open(key)
                    prose.words(words)
                    prose.close()
                case "html_inline":
                    self._tag(token.content)

    def _end_heading(self) -> None:
        name = slug(self.words)
        self.page.end_heading(f"{name}-{self.slugs[name]}" if self.slugs[name] else name)
        self.slugs[name] += 1

    def _html(self, text: str) -> None:
        tree = parse(text, self.where)
        if tree is not None:
            walk(tree, self.page)

    def _tag(self, tag: str) -> None:
        """A tag in running text: line breaks, links and anchors count, what else there is does not."""
        name = re.match(r"</?([a-zA-Z0-9]+)", tag)
        kind = name.group(1).lower() if name else ""
        if kind == "br":
            self.page.prose.line()
        elif kind == "a" and tag.startswith("</"):
            if self.tags and self.tags.pop():
                self.page.prose.close()
        elif kind in ("a", "img"):
            found: Any = parse(tag, self.where)
            element = next(found.iter(kind), None) if found is not None else None
            if element is None:
                return
            if kind == "img":
                self.page.prose.words(element.get("alt") or "")
                return
            self.tags.append(element.get("href") is not None)
            if self.tags[-1]:
                self.page.prose.open(self.page.links.key(element.get("href")))
            elif element.get("name") or element.get("id"):
                self.page.anchor(element.get("name") or element.get("id"))
