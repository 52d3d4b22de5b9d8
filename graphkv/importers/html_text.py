"""The text, headings and links of an HTML tree, as a page is read; for HTML files and for HTML in Markdown."""

from __future__ import annotations

import codecs
import contextlib
import re
from typing import Any
from urllib.parse import urljoin

from graphkv.errors import DocumentError
from graphkv.importers.pages import Page

_LEFT_OUT = {"script", "style", "nav", "template", "noscript", "head", "title", "iframe", "svg"}
_ROLES_LEFT_OUT = {"navigation", "search", "banner", "contentinfo"}
_HEADINGS = {f"h{level}" for level in range(1, 7)}
_BLOCKS = {"address", "article", "aside", "blockquote", "body", "caption", "center", "dd", "details", "div", "dl", "dt", "fieldset", "figcaption"}
_BLOCKS |= {"figure", "footer", "form", "header", "hr", "main", "p", "pre", "section", "summary", "table"}
_LISTS = {"ul", "ol", "menu"}


def parse(text: str, where: str) -> Any:
    """The root element of an HTML text, broken mark-up mended; None if there is nothing in it.

    Raises:
        DocumentError: elements are nested too deep.
    """
    from lxml import etree

    parser = etree.HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True, no_network=True, huge_tree=True)
    try:
        root = etree.fromstring(text.encode("utf-8", "replace"), parser)
    except etree.XMLSyntaxError as error:
        raise DocumentError(f"{where}: HTML that cannot be read ({error.msg})") from None
    for message in parser.error_log:
        if "depth" in message.message:  # the parser stops there, and leaves out the rest of the page
            raise DocumentError(f"{where}: HTML that cannot be read ({message.message.partition(',')[0]})")
    return root


def main_parts(root: Any) -> list[Any]:
    """The elements that a page itself declares to be what it is about, the outermost ones that hold text; the whole page if it declares none."""
    found: dict[Any, None] = {}
    for element in root.iter("*"):
        if element.tag != "main" and "main" not in _roles(element):
            continue
        within = any(above in found or _left_out(above) for above in element.iterancestors())
        if not within and any(text.strip() for text in element.itertext()):
            found[element] = None
    return list(found) or [root]


def _roles(element: Any) -> list[str]:
    return (element.get("role") or "").lower().split()


def _left_out(element: Any) -> bool:
    """Whether an element is no text of the page: scripts, what leads around the site, and a heading's link to itself."""
    if element.tag in _LEFT_OUT or not _ROLES_LEFT_OUT.isdisjoint(_roles(element)):
        return True
    return element.tag == "a" and ("headerlink" in (element.get("class") or "").split() or _is_mark(element))


def _is_mark(element: Any) -> bool:
    """Whether all that is visible is ``¶`` or ``#``."""
    found = ""
    for text in element.itertext():
        found += text.strip()
        if found not in ("", "¶", "#"):
            return False
    return bool(found)


def walk(root: Any, page: Page) -> None:
    """Everything that is visible in `root`, and its links, goes into the page."""
    from lxml import etree

    state = _State(page, next((found.get("href", "") for found in root.getroottree().iter("base")), ""))
    tree = etree.iterwalk(root, events=("start", "end"))
    for event, element in tree:
        if not isinstance(element.tag, str):
            continue
        if event == "start":
            if _left_out(element):
                tree.skip_subtree()
                continue
            state.start(element)
            state.text(element.text)
        else:
            if not _left_out(element):
                state.end(element)
            if element is not root:
                state.text(element.tail)


class _State:
    """Where in the tree the walk is."""

    def __init__(self, page: Page, base: str) -> None:
        self.page, self.base = page, base
        self.lists: list[int | None] = []
        self.verbatim = 0
        self.heading: Any = None
        self.cell: Any = None  # of a table, that is one line

    def text(self, text: str | None) -> None:
        if text and self.verbatim:
            self.page.prose.verbatim(text)
        elif text:
            self.page.prose.words(text)

    def start(self, element: Any) -> None:
        tag, page = element.tag, self.page
        if tag in _HEADINGS and not page.in_heading:
            self.heading = element
            page.begin_heading(int(tag[1]))
        elif tag in _BLOCKS:
            self._break()
            self.verbatim += tag == "pre"
        elif tag in _LISTS:
            self._break(line=True)
            self.lists.append(1 if tag == "ol" else None)
        elif tag == "li" and self.cell is None:
            page.prose.item(self._mark())
        elif tag in ("tr", "br", "li"):
            self._break(line=True)
        elif tag in ("td", "th"):
            page.prose.words(" | " if element.getprevious() is not None else "")
            if self.cell is None and next(element.iter("table", *_HEADINGS), None) is None:  # else the table is there for the layout
                self.cell = element
        elif tag == "img":
            page.prose.words(element.get("alt") or "")
        name = element.get("id") or (element.get("name") if tag == "a" else None)
        if name and element is not self.heading:
            page.anchor(name)
        if tag == "a" and element.get("href") is not None:
            page.prose.open(self._key(element.get("href")))

    def end(self, element: Any) -> None:
        tag, page = element.tag, self.page
        if tag == "a" and element.get("href") is not None:
            page.prose.close(empty=element.get("title") or element.get("href"))
        elif element is self.heading:
            page.end_heading(element.get("id"))
            self.heading = None
        elif element is self.cell:
            self.cell = None
        elif tag in _BLOCKS:
            self._break()
            self.verbatim -= tag == "pre"
        elif tag == "li" and self.cell is None:
            page.prose.end_item()
        elif tag in _LISTS:
            self.lists.pop()
            self._break(line=bool(self.lists))

    def _break(self, *, line: bool = False) -> None:
        """A new paragraph, or a new line; within a cell of a table only a space."""
        if self.cell is not None:
            self.page.prose.words(" ")
        elif line:
            self.page.prose.line()
        else:
            self.page.prose.block()

    def _mark(self) -> str:
        depth, number = "  " * min(len(self.lists) - 1, 8), self.lists[-1] if self.lists else None
        if number is None:
            return f"{depth}- "
        self.lists[-1] = number + 1
        return f"{depth}{number}. "

    def _key(self, href: str) -> str | None:
        if self.page.in_heading and href.startswith("#"):
            return None  # a heading's link to itself
        with contextlib.suppress(ValueError):  # malformed, and counted as such
            href = urljoin(self.base, href)
        return self.page.links.key(href)


def declared_encoding(data: bytes) -> str | None:
    """The encoding that an HTML file says it has, in its first kilobytes; None if it says none, or one that pages do not have.

    Example:
        >>> declared_encoding(b'<meta charset="iso-8859-1">'), declared_encoding(b'<meta charset="zip">')
        ('cp1252', None)
    """
    found = re.search(rb"""(?i)(?:charset|encoding)\s*=\s*["']?\s*([\w.:-]{2,40})""", data[:4096])
    name = found.group(1).decode("ascii", "replace").lower() if found else ""
    if not re.fullmatch(r"utf-?8|(us-)?ascii|iso-?8859-?\d+|latin-?\d|windows-\d+|cp\d+|koi8-[ru]|(x-)?mac\w*|shift[_-]?jis|euc-(jp|kr)|gbk|gb2312|gb18030|big5(-hkscs)?|tis-620", name):
        return None
    try:
        known = codecs.lookup(name).name
    except LookupError:
        return None
    return "cp1252" if known in ("iso8859-1", "ascii") else known  # as browsers do
