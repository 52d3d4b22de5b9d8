"""What a paper is called, and by whom it is: its id, its other names, and the authors out of LaTeX's many forms of them."""

from __future__ import annotations

import re
from pathlib import Path

from graphkv.importers.bibitem import authors_in
from graphkv.importers.latex.corpus import Corpus
from graphkv.importers.reading import Reading

_USUAL_NAMES = frozenset(
    ("main", "paper", "ms", "article", "manuscript", "arxiv", "template", "root", "report", "draft", "final", "submission", "thesis", "acl")
)
_ARXIV_ID = re.compile(r"\d{4}\.\d{4,5}(v\d+)?")
_NO_PERSON = re.compile(
    r"(?i)\b(?:universit\w*|institut\w*|department|dept|school|faculty|college|lab\w*|center|centre|research|inc|corp\w*|ltd|gmbh|google|microsoft|"
    r"academy|group|team|usa|uk|china|germany|france|canada|india|japan|italy|abstract|anonymous|member|fellow|student|email|correspond\w*|eth|kaist|"
    r"epfl|inria|cnrs|csail|nvidia|openai|deepmind|alibaba|tencent|huawei|(?-i:MIT|TU|UC|IBM|CMU|NYU|UCLA|UCL|KIT|LMU|NEC|AI))\b|[@\d/]"
)
_MARKS = re.compile(r"\$[^$]*\$|[*†‡§¶∗⋆]|\^\S+|\([^()]*\)|\[[^\[\]]*\]")


def names(path: Path, root: Path, reading: Reading) -> tuple[str, tuple[str, ...], str | None]:
    """A paper's id, its other names, and its arXiv id if its file or folder is called by it.

    The id is the path within `root` without its ending; a file that is called ``main.tex`` and the like, and is the only
    paper of its folder, is called by the folder.
    """
    folder = path.parent.resolve()  # a file that was named may be a link to anywhere
    inside = (folder / path.name).relative_to(root.resolve())
    id = inside.with_suffix("").as_posix()
    others = [inside.as_posix()]
    if path.stem.lower() in _USUAL_NAMES and not _other_papers(path, root, reading):
        others.append(id)
        id = folder.name if inside.parent == Path() else inside.parent.as_posix()
    elif path.stem.lower() not in _USUAL_NAMES:
        others += [path.name, path.stem]
    arxiv = next((name for name in (path.stem, folder.name) if _ARXIV_ID.fullmatch(name)), None)
    return id, tuple(dict.fromkeys(name for name in others if name != id)), arxiv


def _other_papers(path: Path, root: Path, reading: Reading) -> bool:
    """Whether another file of the folder is a paper by itself."""
    corpus = Corpus.of(root, reading)
    return any(corpus.is_main(other) for other in corpus.beside(path) if other not in reading.claimed)


def authors(texts: list[str]) -> tuple[str, ...]:
    """Persons out of what ``\\author`` commands print; affiliations, marks and addresses are left out.

    Example:
        >>> authors(["Kyle Lo$^1$ Lucy Wang\\n$^1$Allen Institute", "Iz Beltagy, Arman Cohan"])
        ('Kyle Lo', 'Lucy Wang', 'Iz Beltagy', 'Arman Cohan')
    """
    found: list[str] = []
    for text in texts:
        for line in re.split(r"\n+", text):
            for piece in re.split(r"\$[^$]*\$", line) if "," not in _MARKS.sub("", line) else [_MARKS.sub("", line)]:
                for name in authors_in(_MARKS.sub(" ", piece)):
                    words = name.split()
                    if 2 <= len(words) <= 5 and not _NO_PERSON.search(name) and all(word[0].isupper() or len(word) <= 3 for word in words):
                        found.append(name)
    return tuple(dict.fromkeys(found))
