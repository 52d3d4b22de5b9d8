"""Reader of Pubmed: the LINQS release (`Pubmed-Diabetes.*.tab`) with titles and abstracts in TAPE's `pubmed.json`."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from graphkv.errors import DocumentError

from ..runner.case import Broken
from .topic_papers import Papers, Stamp, connect, find_files, lines_of, read_text, stamps

CLASSES = {"1": "Experimental", "2": "Type 1", "3": "Type 2"}
"""The labels of the release, and the words that tell the classes apart.

The release's own names are "Diabetes Mellitus, Experimental", "Diabetes Mellitus Type 1" and "Diabetes Mellitus Type 2".
"""

EXPECTED = (
    "Pubmed-Diabetes.NODE.paper.tab (two lines of header, then PMID, tab, label=1 to 3, words) and Pubmed-Diabetes.DIRECTED.cites.tab (two lines "
    "of header, then number, paper:PMID, |, paper:PMID with tabs between) of https://linqs.org/datasets, in the folder or its data/, "
    "and pubmed.json (a list of objects with PMID, TI and AB) beside them, "
    "all three linked from https://github.com/XiaoxinHe/TAPE (its dataset/PubMed_orig); in the folder itself, in PubMed_orig/ or in Pubmed-Diabetes/"
)
_BASES = ("", "PubMed_orig/", "Pubmed-Diabetes/", "pubmed/")
_FOLDERS = ("", "data/")


def read_pubmed(folder: str | Path) -> Papers:
    """The network in a folder. What has been read is remembered as long as the files stay as they are.

    Texts are found by PMID, not by their place in the list. A record without a PMID and without a text (PubMed did not know the id) is passed over.

    Raises:
        DocumentError: files are missing (all that is expected is listed), `pubmed.json` is not such a list, or there is no paper.

    Example:
        >>> read_pubmed("dataset/PubMed_orig").papers["12187484"].label  # doctest: +SKIP
        'Experimental'
    """
    wanted = ("Pubmed-Diabetes.NODE.paper.tab", "Pubmed-Diabetes.DIRECTED.cites.tab", "pubmed.json")
    places = {name: [f"{base}{inner}{name}" for base in _BASES for inner in _FOLDERS] for name in wanted}
    return _read(stamps(find_files(Path(folder), places, EXPECTED)), str(folder))


@functools.lru_cache(maxsize=4)
def _read(files: tuple[Stamp, ...], folder: str) -> Papers:
    nodes, cites, records = (Path(name) for name, _, _ in files)
    broken: list[Broken] = []
    labels = _labels(nodes, broken)
    citations = []
    for number, line in enumerate(lines_of(cites)[2:], start=3):
        fields = [field.strip() for field in line.split("\t")]
        ends = [field.removeprefix("paper:") for field in fields if field.startswith("paper:")]
        if len(ends) == 2 and all(ends):
            citations.append((ends[0], ends[1]))
        elif line.strip():
            broken.append(Broken(f"{cites.name}:{number}", f"expected a number, paper:PMID, | and paper:PMID with tabs between, got {line[:60]!r}"))
    texts = _texts(records, broken)
    return connect(labels, lambda id: texts.get(id, ("", "")), citations, broken, Path(folder))


def _labels(nodes: Path, broken: list[Broken]) -> dict[str, str]:
    labels: dict[str, str] = {}
    for number, line in enumerate(lines_of(nodes)[2:], start=3):
        if not line.strip():
            continue
        where, fields = f"{nodes.name}:{number}", line.split("\t")
        id, label = fields[0].strip(), next((field.strip().removeprefix("label=") for field in fields[1:] if field.startswith("label=")), None)
        if not id or label is None:
            broken.append(Broken(where, f"expected a PMID, label=… and words with tabs between, got {line[:60]!r}"))
        elif label not in CLASSES:
            broken.append(Broken(where, f"paper {id}: expected label=1, 2 or 3, got label={label}"))
        elif id in labels:
            broken.append(Broken(where, f"paper {id} stands there a second time; the first row counts"))
        else:
            labels[id] = CLASSES[label]
    return labels


def _texts(path: Path, broken: list[Broken]) -> dict[str, tuple[str, str]]:
    """Title and abstract by PMID."""
    try:
        records: Any = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise DocumentError(f"{path}: not valid JSON ({error.msg} at line {error.lineno}, column {error.colno})") from None
    if not isinstance(records, list):
        raise DocumentError(f"{path}: expected a JSON list of objects with PMID, TI and AB, got {type(records).__name__}")
    found: dict[str, tuple[str, str]] = {}
    for place, record in enumerate(records):
        where = f"{path.name}[{place}]"
        if not isinstance(record, dict):
            broken.append(Broken(where, f"expected an object with PMID, TI and AB, got {type(record).__name__}"))
            continue
        id, title, abstract = record.get("PMID"), record.get("TI"), record.get("AB")
        texts: list[Any] = ["" if _nothing(text) else text for text in (title, abstract)]
        if not all(isinstance(text, str) for text in texts):
            broken.append(Broken(where, "expected TI and AB to be strings"))
        elif _nothing(id):
            if any(texts):
                broken.append(Broken(where, "has a text but no PMID: it belongs to no paper"))
        else:
            found.setdefault(str(id).strip(), (texts[0], texts[1]))
    return found


def _nothing(value: Any) -> bool:
    """None, an empty string, or the NaN that pandas writes."""
    return value is None or value == "" or value != value
