"""What files in a folder are called, and what the links between them mean; nothing is opened to find out."""

from __future__ import annotations

import mimetypes
import os
import posixpath
from collections import Counter
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from graphkv.importers.formats import ENDINGS
from graphkv.importers.reading import Reading
from graphkv.importers.record import Reference, normal_arxiv, normal_doi

INDEX = ("README.md", "index.md", "readme.md", "index.html", "index.htm")
"""What a link to a folder means: the first of these that is in it."""

_MARKDOWN = (".md", ".markdown")
_FILE_TYPES = mimetypes.MimeTypes()


def relative_name(path: Path, root: Path) -> str:
    """The path of a file relative to the folder that was named, with ``/`` on every system.

    Example:
        >>> relative_name(Path("notes/a/b.md"), Path("notes"))
        'a/b.md'
    """
    return path.relative_to(root).as_posix() if path.is_relative_to(root) and path != root else path.name


def file_names(path: Path, root: Path) -> tuple[str, tuple[str, ...]]:
    """The id of the record of a file, its relative path without ending, and its other names: with the ending, and without outer folders.

    A name with the ending that is the path of another file is that file's alone.

    Example:
        >>> file_names(Path("notes/a/b.md"), Path("notes"))
        ('a/b', ('a/b.md', 'b', 'b.md'))
    """
    name = relative_name(path, root)
    id = name.removesuffix(path.suffix) if path.suffix else name
    names = [name]
    while "/" in name:
        name = name.partition("/")[2]
        names += [name.removesuffix(path.suffix), *([] if os.path.lexists(root / name) else [name])]
    return id, tuple(alias for alias in dict.fromkeys(names) if alias != id)


class Links:
    """The links of one page: those to other pages become references, the others are counted.

    Attributes:
        references: by key, in the order in which they were met.
    """

    def __init__(self, path: Path, root: Path, reading: Reading) -> None:
        self.references: dict[str, Reference] = {}
        self._name, self._path, self._root, self._reading = relative_name(path, root), path, root, reading
        self._left_out: Counter[str] = Counter()

    def key(self, href: str) -> str | None:
        """The key of the reference that a link's address means; None for a link that is left out, which is counted.

        A path is relative to the page, one that begins with ``/`` to the folder that was named. Links to arXiv and DOIs name a work.
        """
        try:
            parts = urlsplit(href.strip())
            host = parts.hostname or ""
        except ValueError:
            return self._leave_out("links that are malformed")
        path, fragment = unquote(parts.path), unquote(parts.fragment)
        ending = posixpath.splitext(path)[1] or posixpath.splitext(self._name)[1]
        if ending.lower() in _MARKDOWN and (" " in fragment or fragment.lower() != fragment):
            fragment = _anchor(fragment)  # Obsidian writes the heading itself
        if "\x00" in path + fragment:
            return self._leave_out("links that are malformed")
        if parts.scheme or parts.netloc:
            return self._work(parts, host) or self._leave_out("links to other sites")
        if not path:
            return self._refer(f"{self._name}#{fragment}") if fragment else self._leave_out("links to nothing")
        target = posixpath.normpath(posixpath.join("" if path.startswith("/") else posixpath.dirname(self._name), path.lstrip("/")))
        if target == ".." or target.startswith("../"):
            return self._leave_out(f"links that lead out of the folder {self._root}")
        if os.path.isdir(self._root / target):
            target = self._index(target)
        elif _is_other_file(target):
            return self._leave_out("links to files of other kinds")
        return self._refer(f"{target}#{fragment}" if fragment else target)

    def wiki(self, inner: str, *, embedded: bool = False) -> tuple[str | None, str]:
        """The key and the words of a wiki link such as ``[[Note]]``, ``[[Note|label]]`` or ``[[Note#Heading]]``, given without its brackets.

        Args:
            embedded: it is written ``![[Note]]``: pictures and other files that are shown have no words.
        """
        name, _, label = inner.replace("\\|", "|").partition("|")
        name, _, heading = (part.strip() for part in name.partition("#"))
        heading = heading.rpartition("#")[2].strip()
        name = name.removesuffix(".md")
        words = label.strip() or " > ".join(part for part in (name, heading) if part)
        if not name and not heading:
            return self._leave_out("links to nothing"), words
        if name.startswith(("./", "../")):
            name = posixpath.normpath(posixpath.join(posixpath.dirname(self._name), name))
        if posixpath.normpath(name).startswith("..") or name.startswith("/"):
            return self._leave_out(f"links that lead out of the folder {self._root}"), words
        if _is_other_file(name):
            return self._leave_out("links to files of other kinds"), "" if embedded else words
        target, anchor = name or self._name, _anchor(heading)
        return self._refer(f"{target}#{anchor}" if anchor else target), words

    def note(self) -> None:
        """Put on record how many links were left out, and why."""
        if self._left_out:
            self._reading.note(str(self._path), "left out: " + ", ".join(f"{count} {what}" for what, count in sorted(self._left_out.items())))

    def _refer(self, target: str) -> str:
        self.references.setdefault(target, Reference(target, target=target, kind="links"))
        return target

    def _work(self, parts: SplitResult, host: str) -> str | None:
        """The key of a link to a work by its identifier; None for any other site."""
        address = unquote(parts.geturl())
        doi = normal_doi(address) if parts.scheme == "doi" or host.removeprefix("dx.").removeprefix("www.") == "doi.org" else None
        arxiv = normal_arxiv(address) if parts.scheme == "arxiv" or host == "arxiv.org" or host.endswith(".arxiv.org") else None
        if not doi and not arxiv:
            return None
        key = f"doi:{doi}" if doi else f"arxiv:{arxiv}"
        self.references.setdefault(key, Reference(key, doi=doi, arxiv=arxiv, kind="links"))
        return key

    def _index(self, folder: str) -> str:
        for name in INDEX:
            if self._reading.beside(self._root, self._root / folder, name):
                return posixpath.normpath(posixpath.join(folder, name))
        return folder

    def _leave_out(self, what: str) -> str | None:
        """Count a link that has no key."""
        self._left_out[what] += 1
        return None


def slug(heading: str) -> str:
    """What GitHub writes behind ``#`` to mean a heading.

    Example:
        >>> slug("What's new in 2.0?")
        'whats-new-in-20'
    """
    kept = (c for c in heading.strip().lower() if c.isalnum() or c in " -_")
    return "".join(kept).replace(" ", "-")


def _anchor(heading: str) -> str:
    """The anchor of a heading as Obsidian names it, ``Outer#Inner``; empty for a block (``^name``), which is no section."""
    heading = heading.rpartition("#")[2].strip()
    return "" if heading.startswith("^") else slug(heading)


def _is_other_file(name: str) -> bool:
    """Whether a name has an ending of a known kind of file that is none of ours: a picture, an archive, a program."""
    ending = posixpath.splitext(name)[1].lower()
    return bool(ending) and ending not in ENDINGS and ending != ".xml" and _FILE_TYPES.guess_type(f"a{ending}", strict=False)[0] is not None
