"""Reads LaTeX source token by token, with macro texts pushed in front of what is left, as TeX does."""

from __future__ import annotations

import re

_CONTROL = re.compile(r"\\([A-Za-z@]+|.|$)", re.DOTALL)
_BRACES = re.compile(r"\\.|[{}]", re.DOTALL)
_SPACE = re.compile(r"(?:[^\S\n]|\n(?![^\S\n]*\n))*")
_BRANCH = re.compile(r"\\(?P<name>if(?!f(?![A-Za-z@])|thenelse)[A-Za-z@]*|else|fi)(?![A-Za-z@])|\\.", re.DOTALL)
_BEFORE_GROUP = re.compile(r"(?:[^{}\n]|\n(?!\n)){0,500}")
_LENGTH = re.compile(r"\s*=?\s*-?[\d.]*\s*(?:(?:pt|pc|in|bp|cm|mm|dd|cc|sp|ex|em|mu|fill?l?)(?![A-Za-z])\s*)?(?:(?:plus|minus)\s*[\d.]+\s*(?:[a-z]{2,5})\s*){0,2}")
_LONGEST_OPTION, _SHORT_OPTION = 5000, 50
_IN_VAIN, _BRANCHES_IN_VAIN = 2_000_000, 50_000_000
"""Characters that are searched without success before a source is taken for broken, and searched less far."""


class _Frame:
    """One text and how far it is read."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self._closing: dict[int, int] | None = None

    def closing(self, opening: int) -> int | None:
        """Where the brace that opens at `opening` closes."""
        if self._closing is None:
            self._closing = {}
            stack: list[int] = []
            for found in _BRACES.finditer(self.text):
                if found.group() == "{":
                    stack.append(found.start())
                elif found.group() == "}" and stack:
                    self._closing[stack.pop()] = found.start()
        return self._closing.get(opening)


class Scanner:
    """What is left to be read.

    Example:
        >>> scanner = Scanner(r"see \\cite[p. 3]{a}.")
        >>> scanner.plain(), scanner.control(), scanner.option(), scanner.argument(), scanner.plain()
        ('see ', 'cite', 'p. 3', 'a', '.')
    """

    def __init__(self, text: str) -> None:
        self._frames = [_Frame(text)]
        self._in_vain = self._branches_in_vain = 0
        self.unbalanced = 0
        """Arguments whose brace was never closed."""

    @property
    def depth(self) -> int:
        """Macro texts that are being read; 0 in the source itself."""
        return len(self._frames) - 1

    def push(self, text: str) -> None:
        """Put `text` in front of what is left."""
        if text:
            self._drop_finished()
            self._frames.append(_Frame(text))

    def unwind(self) -> None:
        """Give up every macro text and go on in the source itself."""
        del self._frames[1:]

    def _drop_finished(self) -> _Frame:
        while len(self._frames) > 1 and self._frames[-1].at >= len(self._frames[-1].text):
            self._frames.pop()
        return self._frames[-1]

    def plain(self) -> str | None:
        """Text up to the next backslash, or up to the end of this macro text; None at the end of everything."""
        frame = self._drop_finished()
        if frame.at >= len(frame.text):
            return None
        end = frame.text.find("\\", frame.at)
        end = len(frame.text) if end < 0 else end
        text = frame.text[frame.at : end]
        frame.at = end
        return text

    def control(self) -> str | None:
        """The name of the control word or symbol that comes next, without the backslash; None if something else does."""
        frame = self._frames[-1]
        found = _CONTROL.match(frame.text, frame.at)
        if not found:
            return None
        frame.at = found.end()
        return found.group(1)

    def ends_here(self) -> bool:
        """Whether this macro text is used up, so that what comes next stood elsewhere."""
        return self._frames[-1].at >= len(self._frames[-1].text)

    def skip_space(self) -> None:
        """Over white space, but not over the end of a paragraph."""
        while True:
            frame = self._drop_finished()
            found = _SPACE.match(frame.text, frame.at)
            frame.at = found.end() if found else frame.at
            if frame.at < len(frame.text) or len(self._frames) == 1:
                return

    def skip_blank(self) -> None:
        """Over white space and the ends of paragraphs."""
        while True:
            self.skip_space()
            frame = self._drop_finished()
            if not frame.text.startswith("\n", frame.at):
                return
            frame.at += 1

    def peek(self) -> str:
        """The next character; empty at the end."""
        frame = self._drop_finished()
        return frame.text[frame.at : frame.at + 1]

    def take(self, character: str) -> bool:
        """Over `character`, if it comes next (behind white space, which stays if it does not)."""
        place = (self._drop_finished(), self._frames[-1].at)
        self.skip_space()
        if self.peek() == character:
            self._frames[-1].at += 1
            return True
        if self._frames[-1] is place[0]:
            place[0].at = place[1]
        return False

    def argument(self) -> str:
        """The next argument: the content of a group, a control word, or one character."""
        self.skip_space()
        frame = self._drop_finished()
        if frame.at >= len(frame.text):
            return ""
        start = frame.at
        if frame.text[start] == "{":
            end = frame.closing(start)
            if end is None:
                self.unbalanced += 1
                stop = frame.text.find("\n\n", start)
                frame.at = len(frame.text) if stop < 0 else stop
                return frame.text[start + 1 : frame.at].replace("{", "").replace("}", "")
            frame.at = end + 1
            return frame.text[start + 1 : end]
        if frame.text[start] == "}":  # an argument is missing; the group's end is not it
            return ""
        found = _CONTROL.match(frame.text, start)
        frame.at = found.end() if found else start + 1
        return frame.text[start : frame.at]

    def option(self, opening: str = "[", closing: str = "]") -> str | None:
        """An optional argument; None if there is none."""
        place = (self._drop_finished(), self._frames[-1].at)
        if self.take(opening):
            found = self.until(closing)
            if found is not None:
                return found
        if self._frames[-1] is place[0]:
            place[0].at = place[1]
        return None

    def until(self, delimiter: str) -> str | None:
        """Text up to `delimiter`, which is read over; groups count as one. None, and nothing read, if it does not come within the paragraph."""
        frame = self._drop_finished()
        longest = _LONGEST_OPTION if self._in_vain < _IN_VAIN else _SHORT_OPTION
        at, end = frame.at, min(len(frame.text), frame.at + longest)
        while at < end:
            if frame.text.startswith(delimiter, at):
                text = frame.text[frame.at : at]
                frame.at = at + len(delimiter)
                return text
            character = frame.text[at]
            if character == "{":
                closing = frame.closing(at)
                if closing is None:
                    break
                at = closing
            elif character == "}" or frame.text.startswith("\n\n", at):
                break
            at += 2 if character == "\\" else 1
        self._in_vain += at - frame.at
        return None

    def rest(self) -> str:
        """Everything that is left."""
        text = "".join(frame.text[frame.at :] for frame in reversed(self._frames))
        del self._frames[1:]
        self._frames[0].at = len(self._frames[0].text)
        return text

    def skip_length(self) -> None:
        """Over a number or a length as TeX's own commands take it: ``0``, ``-2.5pt plus 1fil``."""
        frame = self._drop_finished()
        found = _LENGTH.match(frame.text, frame.at)
        frame.at = found.end() if found else frame.at

    def before_group(self) -> str:
        """Text in front of the next group, at most up to the end of the paragraph."""
        frame = self._drop_finished()
        found = _BEFORE_GROUP.match(frame.text, frame.at)
        frame.at = found.end() if found else frame.at
        return found.group() if found else ""

    def group_ahead(self) -> bool:
        """Whether a group comes next, white space apart."""
        place = (self._drop_finished(), self._frames[-1].at)
        self.skip_space()
        ahead = self.peek() == "{"
        if self._frames[-1] is place[0]:
            place[0].at = place[1]
        return ahead

    def skip_branch(self, stop_at_else: bool) -> bool:
        """Over a branch of a condition that does not hold, with the conditions inside of it.

        Returns:
            Whether it ended in an ``\\else``. Without any end in this text only the condition's word is gone.
        """
        frame = self._drop_finished()
        depth = 0
        if self._branches_in_vain > _BRANCHES_IN_VAIN:
            return False
        for found in _BRANCH.finditer(frame.text, frame.at):
            name = found["name"]
            if depth == 0 and (name == "fi" or (name == "else" and stop_at_else)):
                frame.at = found.end()
                return name == "else"
            if name == "fi":
                depth -= 1
            elif name and name != "else":
                depth += 1
        self._branches_in_vain += len(frame.text) - frame.at
        return False
