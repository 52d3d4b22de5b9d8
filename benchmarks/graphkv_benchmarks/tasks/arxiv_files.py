"""The files of Arxiv-QA as they are released: questions, answers, and the texts of papers with the texts of what they cite."""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from graphkv.errors import DocumentError

_PARTS = {"questions": ".txt", "answers": ".txt", "text_data": ".json"}
_TYPES = "types.json"
_Stamp = tuple[int, int] | None
_ABOVE = ("", "arxiv", "datahub/arxiv")


@dataclass(frozen=True)
class EgoTexts:
    """The texts of one ego graph.

    Attributes:
        paper: the centre's name in the file. centre: its text. references: (name, text) in the file's order, empty texts too, but not those that are null.
    """

    paper: str
    centre: str
    references: tuple[tuple[str, str], ...]

    @property
    def with_text(self) -> tuple[tuple[str, str], ...]:
        """The references that there is something to read of."""
        return tuple((name, text) for name, text in self.references if text.strip())


class ArxivFiles:
    """The folder of the data set. Files are read when they are asked for; nothing is kept but the list of ids.

    What is wrong with a file is said with its name inside the folder, so that it reads the same wherever the data lies.

    Args:
        data: the folder with ``questions/``, ``answers/`` and ``text_data/``, or one above it (the one with ``arxiv`` or ``datahub/arxiv`` in it).

    Raises:
        DocumentError: there is no such folder, or no file in it.

    Example:
        >>> ArxivFiles("datahub/arxiv").ids[:3]  # doctest: +SKIP
        ('1', '2', '3')
    """

    def __init__(self, data: str | Path) -> None:
        places = [Path(data) / above for above in _ABOVE]
        self.folder = next((place for place in places if all((place / part).is_dir() for part in _PARTS)), places[0])
        missing = [part for part in _PARTS if not (self.folder / part).is_dir()]
        if missing:
            raise DocumentError(
                f"{data} is not the Arxiv-QA data: expected questions/1.txt, answers/1.txt and text_data/1.json (and so on) in it, in {data}/arxiv or in"
                f" {data}/datahub/arxiv; there is no {' and no '.join(missing)}. `graphkv bench download` fetches the released data,"
                " `graphkv bench offline arxiv-qa` makes a set of the same shape without a network"
            )
        if not self.ids:
            raise DocumentError(f"{self.folder} holds no question: expected questions/1.txt, answers/1.txt, text_data/1.json and so on")

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """Every id that has a file in any of the three folders, in the order of numbers."""
        found = {path.stem for part, ending in _PARTS.items() for path in (self.folder / part).glob(f"*{ending}")}
        return tuple(sorted((id for id in found if id.isascii() and id.isdigit()), key=lambda id: (int(id), id)))

    def digest(self) -> str:
        """16 hex digits over the bytes of all files that are read: equal where two folders hold the same set. Kept in this process until a file changes."""
        names = [*(f"{part}/{id}{ending}" for id in self.ids for part, ending in _PARTS.items()), _TYPES]
        return _digest(self.folder.absolute(), tuple((name, _stamp(self.folder / name)) for name in names))

    def question(self, id: str) -> str:
        """The question as it stands in its file. Raises DocumentError if there is none."""
        return self._text("questions", id)

    def answer(self, id: str, *, may_be_empty: bool = False) -> str:
        """The answer as it stands in its file. Raises DocumentError if there is none, or nothing in it unless that may be."""
        return self._text("answers", id, may_be_empty)

    def types(self) -> dict[str, str]:
        """Question types by id, which a set made by ``graphkv bench offline`` has in types.json. Raises DocumentError if that file is malformed."""
        if not (self.folder / _TYPES).exists():
            return {}
        found = self._json(_TYPES)
        if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
            raise DocumentError(f"{_TYPES}: expected an object of id and type, got something else")
        return found

    def ego(self, id: str) -> EgoTexts:
        """The texts of an ego graph; of several papers in a file the first counts, as in the official code. References that are null are left out.

        Raises:
            DocumentError: the file is missing or not ``{paper: {"0": text, "1": {reference: text or null}}}``, or the paper has no text.
        """
        file = f"text_data/{id}.json"
        row = self._json(file)
        if not isinstance(row, dict) or not row:
            raise DocumentError(f'{file}: expected {{paper: {{"0": text, "1": {{reference: text or null}}}}}}, got {_said(row)}')
        paper, parts = next(iter(row.items()))
        if not isinstance(parts, dict) or not isinstance(parts.get("1"), dict):
            raise DocumentError(f'{file}: paper {paper!r} must have its text under "0" and an object of references under "1", got {_said(parts)}')
        references = tuple((name, _usable(text, f"{file}: reference {name!r}")) for name, text in parts["1"].items() if text is not None)
        centre = _usable(parts.get("0"), f"{file}: paper {paper!r}")
        if not centre.strip():
            raise DocumentError(f"{file}: paper {paper!r} has an empty text")
        return EgoTexts(paper, centre, references)

    def _text(self, part: str, id: str, may_be_empty: bool = False) -> str:
        file = f"{part}/{id}.txt"
        text = self._read(file)
        if not text.strip() and not may_be_empty:
            raise DocumentError(f"{file} is empty: expected one of the {part}")
        return text

    def _read(self, file: str) -> str:
        try:
            return (self.folder / file).read_text(encoding="utf-8")
        except FileNotFoundError:
            raise DocumentError(f"there is no {file} in the data") from None
        except UnicodeDecodeError as error:
            raise DocumentError(f"{file} cannot be read as UTF-8 text: {error}") from None
        except OSError as error:  # its own message holds the whole path
            raise DocumentError(f"{file} cannot be read: {error.strerror or type(error).__name__}") from None

    def _json(self, file: str) -> Any:
        try:
            return json.loads(self._read(file))
        except json.JSONDecodeError as error:
            raise DocumentError(f"{file}: not valid JSON ({error.msg} at line {error.lineno}, column {error.colno})") from None
        except (RecursionError, ValueError) as error:  # nested too deep, or a number of thousands of digits
            raise DocumentError(f"{file}: JSON that cannot be read ({error})") from None


def _stamp(path: Path) -> _Stamp:
    """What tells that a file has changed; None where there is none."""
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_size, state.st_mtime_ns


@functools.lru_cache(maxsize=8)
def _digest(folder: Path, stamps: tuple[tuple[str, _Stamp], ...]) -> str:
    found = hashlib.sha256()
    for name, _ in stamps:
        try:
            with (folder / name).open("rb") as file:
                said = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:  # one row is broken then, which is no reason to stop the rest
            said = "cannot be read"
        found.update(f"{name} {said}\n".encode())
    return found.hexdigest()[:16]


def _usable(text: object, where: str) -> str:
    if not isinstance(text, str):
        raise DocumentError(f"{where}: expected a text, got {_said(text)}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DocumentError(f"{where}: {text[error.start]!r} at character {error.start} is half of a character") from None
    return text


def _said(value: object) -> str:
    return {dict: "an object", list: "a list", str: "a text", type(None): "nothing"}.get(type(value), type(value).__name__)
