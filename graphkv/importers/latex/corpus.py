"""Which LaTeX files of a folder are papers, and which are parts of others; each file is looked at once in a run."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from graphkv.errors import DocumentError
from graphkv.importers.latex.clean import clean
from graphkv.importers.latex.files import INCLUSION, named
from graphkv.importers.reading import Reading

MAX_LOOKED_AT = 10_000
"""Files of a folder, with those below it, in which an inclusion is looked for."""

_MAIN = re.compile(r"\\documentclass(?![A-Za-z])|\\documentstyle(?![A-Za-z])|\\begin\s*\{document\}")
_SUBFILE = re.compile(r"\\documentclass\s*(?:\[[^\]]*\])?\s*\{(?:subfiles|standalone)\}")


@dataclass(frozen=True)
class _Seen:
    """What was seen in a file: whether it is a paper by itself, and which files it may include."""

    is_main: bool
    parts: frozenset[Path]


@dataclass
class Corpus:
    """The LaTeX files below one folder, as far as they were looked at.

    Attributes:
        root: the folder; nothing outside of it is opened. reading: of this run; what is to note of a file will be noted when it is read.
    """

    root: Path
    reading: Reading
    _seen: dict[Path, _Seen] = field(default_factory=dict)
    _folders: dict[Path, list[Path]] = field(default_factory=dict)
    _everywhere: dict[Path, list[Path]] | None = None

    @classmethod
    def of(cls, root: Path, reading: Reading) -> Corpus:
        """The one of this run."""
        root = root.resolve()
        corpus: Corpus = reading.cache.setdefault(root, cls(root, reading))
        return corpus

    def is_main(self, file: Path) -> bool:
        """Whether a file is a paper by itself, not a part of one."""
        return self._look(file.resolve()).is_main

    def beside(self, path: Path) -> list[Path]:
        """The other LaTeX files in the folder of `path`."""
        path = path.resolve()
        return [file for file in self._files(path.parent, "*.tex") if file != path]

    def belongs_elsewhere(self, path: Path) -> bool:
        """Whether a file that is no paper by itself is included by one, or by another part that will be read instead of it.

        Looked for in its folder and those above it up to `root`, then everywhere in `root`. Of parts that include each other
        in a ring the first one by name is read.
        """
        start = path.resolve()
        wanted, seen = [start], {start}
        while wanted:
            part = wanted.pop()
            including = self._including(part)
            if part != start and not including:
                return True
            for file in including:
                if self._look(file).is_main:
                    return True
                if file not in seen:
                    seen.add(file)
                    wanted.append(file)
        return start != min(seen)

    def _including(self, part: Path) -> list[Path]:
        """The files that include `part`."""
        near = (file for folder in part.parents if folder.is_relative_to(self.root) for file in self._files(folder, "*.tex"))
        found = [file for file in near if file != part and part in self._look(file).parts]
        if found:
            return found
        if self._everywhere is None:
            self._everywhere = defaultdict(list)
            files = self._files(self.root, "**/*.tex")
            if len(files) > MAX_LOOKED_AT:
                self.reading.note(str(self.root), f"has {len(files):,} .tex files; which of them include others is looked for in {MAX_LOOKED_AT:,}")
            for file in files[:MAX_LOOKED_AT]:
                for included in self._look(file).parts - {file}:
                    self._everywhere[included].append(file)
        return self._everywhere.get(part, [])

    def _files(self, folder: Path, pattern: str) -> list[Path]:
        """Regular files within the root, links followed; not pipes and the like, which would have to be waited for."""
        key = folder / pattern
        if key not in self._folders:
            quiet = Reading()
            beside = (quiet.beside(self.root, folder, str(path.relative_to(folder))) for path in folder.glob(pattern))
            self._folders[key] = sorted({path for path in beside if path})
        return self._folders[key]

    def _look(self, file: Path) -> _Seen:
        if file not in self._seen:
            try:
                text = clean(Reading(max_bytes=self.reading.max_bytes).text(file), [])
            except DocumentError:
                text = ""
            self._seen[file] = _Seen(bool(_MAIN.search(text)) and not _SUBFILE.search(text), self._parts(file, text))
        return self._seen[file]

    def _parts(self, file: Path, text: str) -> frozenset[Path]:
        """The files that the inclusions in a file may mean: TeX starts from the main file's folder, which may lie above."""
        folders = [folder for folder in file.parents if folder.is_relative_to(self.root)]
        places: dict[tuple[Path, Path], Path] = {}
        parts: set[Path] = set()
        for inclusion in INCLUSION.finditer(text):
            name = Path(inclusion["folder"] or "", named(inclusion))
            if "\x00" in str(name):
                continue
            for folder in folders:
                key = (folder, name.parent)
                if key not in places:
                    try:
                        places[key] = (folder / name.parent).resolve()
                    except (OSError, RuntimeError):  # a name too long, a loop of links
                        continue
                parts |= {places[key] / name.name, places[key] / f"{name.name}.tex"}
        return frozenset(parts)
