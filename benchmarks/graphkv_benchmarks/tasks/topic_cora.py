"""Reader of Cora: the LINQS release (`cora.content`, `cora.cites`) with McCallum's titles and abstracts, as TAPE packs them together."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from pathlib import Path

from graphkv.errors import DocumentError

from ..runner.case import Broken
from .topic_papers import Papers, Stamp, connect, find_files, lines_of, stamps

CLASSES = {
    "Case_Based": "Case Based",
    "Genetic_Algorithms": "Genetic Algorithms",
    "Neural_Networks": "Neural Networks",
    "Probabilistic_Methods": "Probabilistic Methods",
    "Reinforcement_Learning": "Reinforcement Learning",
    "Rule_Learning": "Rule Learning",
    "Theory": "Theory",
}
"""The classes as the release writes them, and as a prompt does."""

EXPECTED = (
    "cora.content (paper id, 1433 words as 0 or 1, class; tabs between), cora.cites (cited id, tab, citing id) of https://linqs.org/datasets and "
    "mccallum/cora/papers (paper id, tab, file name, tab, citation) with mccallum/cora/extractions/<file name> (lines 'Title: …', 'Abstract: …') of "
    "https://people.cs.umass.edu/~mccallum/data.html, all four linked from https://github.com/XiaoxinHe/TAPE (its dataset/cora_orig); "
    "in the folder itself, in cora/ or in cora_orig/"
)
_BASES = ("", "cora/", "cora_orig/", "cora_orig/cora/")
_TEXTS = ("mccallum/cora/", "cora/", "")


def read_cora(folder: str | Path) -> Papers:
    """The network in a folder. What has been read is remembered as long as the three files stay as they are, and the list of extractions does.

    An extraction that is changed where it lies is not noticed by a process that has read it: there are some 50,000, too many to look at each time.
    One that cannot be read is reported, and the paper has no text. A paper with several files is read from the last one that is there, as TAPE
    does. Only title and abstract are taken of McCallum's files. File names are also found with ``_`` for ``:`` and in other case, as archives unpack them elsewhere.

    Raises:
        DocumentError: files are missing (all that is expected is listed), or hold no paper.

    Example:
        >>> read_cora("dataset/cora_orig").papers["35"].label  # doctest: +SKIP
        'Genetic Algorithms'
    """
    places = {
        "cora.content": [f"{base}cora.content" for base in _BASES],
        "cora.cites": [f"{base}cora.cites" for base in _BASES],
        "mccallum/cora/papers": [f"{base}{text}papers" for base in _BASES for text in _TEXTS],
        "mccallum/cora/extractions/": [f"{base}{text}extractions" for base in _BASES for text in _TEXTS],
    }
    content, cites, papers, extractions = find_files(Path(folder), places, EXPECTED)
    return _read(stamps((content, cites, papers, extractions)), str(folder))


@functools.lru_cache(maxsize=4)
def _read(files: tuple[Stamp, ...], folder: str) -> Papers:
    content, cites, papers, extractions = (Path(name) for name, _, _ in files)
    broken: list[Broken] = []
    labels = _labels(content, broken)
    citations = []
    for number, line in enumerate(lines_of(cites), start=1):
        ends = line.split()
        if len(ends) == 2:
            citations.append((ends[0], ends[1]))
        elif ends:
            broken.append(Broken(f"{cites.name}:{number}", f"expected a cited and a citing id, got {line[:60]!r}"))
    names: dict[str, list[str]] = {}
    for number, line in enumerate(lines_of(papers), start=1):
        fields = line.split("\t")
        if len(fields) >= 2 and fields[0].strip() and fields[1].strip():
            names.setdefault(fields[0].strip(), []).append(fields[1].strip())
        elif line.strip():
            broken.append(Broken(f"papers:{number}", f"expected a paper id, a file name and a citation with tabs between, got {line[:60]!r}"))
    there = _listing(extractions)

    def texts(id: str) -> tuple[str, str]:
        found = next((there[key] for name in reversed(names.get(id, [])) if (key := _key(name)) in there), None)
        if found is None:
            return "", ""
        try:
            return _title_and_abstract(lines_of(extractions / found))
        except DocumentError as error:
            broken.append(Broken(f"extractions/{found} of paper {id}", str(error).replace(f"{extractions}{os.sep}", "")))
            return "", ""

    return connect(labels, texts, citations, broken, Path(folder))


def _labels(content: Path, broken: list[Broken]) -> dict[str, str]:
    labels: dict[str, str] = {}
    for number, line in enumerate(lines_of(content), start=1):
        fields = line.split()
        if not fields:
            continue
        where, id, label = f"{content.name}:{number}", fields[0], fields[-1]
        if len(fields) < 3 or not set(fields[1:-1]) <= {"0", "1"}:
            broken.append(Broken(where, f"expected a paper id, words as 0 or 1, and a class, got {line[:40]!r}"))
        elif label not in CLASSES:
            broken.append(Broken(where, f"paper {id}: expected a class of {', '.join(CLASSES)}, got {label!r}"))
        elif id in labels:
            broken.append(Broken(where, f"paper {id} stands there a second time; the first row counts"))
        else:
            labels[id] = CLASSES[label]
    return labels


def _key(name: str) -> str:
    return name.replace(":", "_").casefold()


def _listing(folder: Path) -> dict[str, str]:
    try:
        return {_key(name): name for name in sorted(os.listdir(folder))}
    except OSError as error:
        raise DocumentError(f"{folder} cannot be read: {error.strerror or error}") from None


def _title_and_abstract(lines: Sequence[str]) -> tuple[str, str]:
    """The first of each; the other fields (author, address, references) are not taken."""
    title, abstract = (next((line[len(field) :] for line in lines if line.startswith(field)), "") for field in ("Title:", "Abstract:"))
    return title, abstract
