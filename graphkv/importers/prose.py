"""Text that is put together piece by piece: white space tidied, and links kept as places in it."""

from __future__ import annotations

from dataclasses import dataclass

from graphkv.importers.record import Citation


@dataclass
class _Span:
    """A link that is open: its key (None if it is left out), and where its first visible character stands."""

    key: str | None
    start: int | None = None


class Prose:
    """Paragraphs, and the citations in them.

    Example:
        >>> prose = Prose()
        >>> prose.words("See  ")
        >>> prose.open("a.md")
        >>> prose.words("the other\\npage")
        >>> prose.close()
        >>> prose.block()
        >>> prose.words("Next.")
        >>> prose.text, prose.citations
        ('See the other page\\n\\nNext.', [Citation(start=4, end=18, key='a.md')])
    """

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._open: list[_Span] = []
        self._gap = self._prefix = ""
        self.length = 0
        self.citations: list[Citation] = []

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(self._parts)

    def words(self, text: str) -> None:
        """Running text: white space of any length is one space, and none at the beginning of a line."""
        for number, word in enumerate(text.split()):
            if number or text[0].isspace():
                self._gap = self._gap or " "
            self._add(word)
        if text and text[-1].isspace():
            self._gap = self._gap or " "

    def verbatim(self, text: str) -> None:
        """Text that is taken as it stands, such as code."""
        if text:
            self._add(text)

    def line(self) -> None:
        """A new line, unless one has begun."""
        if not self._prefix and self._gap != "\n\n":
            self._gap = "\n"

    def block(self) -> None:
        """A new paragraph, unless one has begun."""
        if not self._prefix:
            self._gap = "\n\n"

    def item(self, mark: str) -> None:
        """A new line that begins with a mark, once something follows."""
        self.line()
        self._prefix = mark

    def end_item(self) -> None:
        """The line is over; a mark that nothing followed is dropped."""
        self._prefix = ""
        self.line()

    def open(self, key: str | None) -> None:
        """A link begins; None for one that is left out."""
        self._open.append(_Span(key))

    def close(self, empty: str = "") -> None:
        """The innermost link ends; if nothing was visible in it, it reads `empty`."""
        if not self._open:
            return
        if self._open[-1].key is not None and self._open[-1].start is None:
            self.words(empty)
        span = self._open.pop()
        if span.key is not None and span.start is not None:
            self.citations.append(Citation(span.start, self.length, span.key))

    def hand_over(self, other: Prose) -> None:
        """Text goes on elsewhere: links that are open end here, and go on there if nothing of them was visible yet."""
        spans = list(self._open)
        while self._open:
            self.close()
        for span in spans:
            other.open(span.key if span.start is None else None)

    def _add(self, text: str) -> None:
        before = (self._gap if self.length else "") + self._prefix
        if before:
            self._parts.append(before)
            self.length += len(before)
        self._gap = self._prefix = ""
        for span in self._open:
            if span.start is None:
                span.start = self.length
        self._parts.append(text)
        self.length += len(text)
