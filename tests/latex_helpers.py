r"""Small LaTeX papers for tests of their importer."""

from __future__ import annotations

from pathlib import Path

from graphkv.importers.latex import paper as latex
from graphkv.importers.reading import Reading
from graphkv.importers.record import Record

BBL = r"""\begin{thebibliography}{2}
\bibitem[{Lo et~al.(2020)Lo, Wang, and Weld}]{lo} Kyle Lo, Lucy Wang, and Dan Weld. 2020. \newblock S2ORC. \newblock In \emph{ACL}.
\bibitem[{Saier and F{\"a}rber(2019)}]{saier} Tarek Saier and Michael F{\"a}rber. 2019. \newblock unarXive.
\bibitem{plain} {\em A manual without authors}.
\end{thebibliography}"""


def read_paper(folder: Path, body: str = "", preamble: str = "", bbl: str = BBL, **files: str | bytes) -> tuple[Record, Reading]:
    """Reads a paper, put into `folder`: files by name, or one body; gives the record and the reading."""
    files = {"x.tex": f"\\documentclass{{article}}\n{preamble}\n\\begin{{document}}\n{body}\n\\end{{document}}", **files}
    if bbl:
        files["x.bbl"] = bbl
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    reading = Reading()
    (record,) = latex.read(folder / "x.tex", folder, reading)
    return record, reading


def cited(record: Record) -> list[tuple[str, str]]:
    """The text and the key of every in-text citation."""
    return [(section.text[c.start : c.end], c.key) for section in record.sections for c in section.citations]
