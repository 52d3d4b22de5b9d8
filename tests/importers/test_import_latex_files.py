r"""The files of LaTeX papers: what is included, which file is a paper, bibliographies, encodings, and folders with pipes, links and left-overs."""

import os
from functools import partial

import pytest
from latex_helpers import BBL, cited, read_paper

from graphkv.importers.gather import gather
from graphkv.importers.latex import corpus
from graphkv.importers.latex import paper as latex
from graphkv.importers.reading import Reading


@pytest.fixture
def paper(tmp_path):
    """See :func:`latex_helpers.read_paper`."""
    return partial(read_paper, tmp_path)


def test_included_files_are_read_in_place_and_claimed(paper, tmp_path):
    record, reading = paper(
        "\\input{sec/a} B \\include{c} \\subfile{d} \\import{sec/}{e} \\input f ",
        **{
            "sec/a.tex": "A \\input{sec/a2} % \\input{no}\n",
            "sec/a2.tex": "A2",
            "c.tex": "C\\endinput no",
            "d.tex": "\\documentclass[x]{subfiles}\\newcommand{\\q}{no}\\begin{document}D\\end{document}no",
            "sec/e.tex": "E",
            "f.tex": "F",
        },
    )
    assert record.sections[0].text == "A A2 B C D E F"
    assert {path.name for path in reading.claimed} == {"a.tex", "a2.tex", "c.tex", "d.tex", "e.tex", "f.tex", "x.bbl"}
    assert not reading.notes and not reading.skipped


def test_missing_circular_and_outside_files_are_noted(paper, tmp_path):
    (tmp_path.parent / "secret.tex").write_text("secret")
    record, reading = paper(r"a \input{gone} \input{loop} \input{../secret} \input{/etc/passwd} \bibliography{../../secret}", **{"loop.tex": r"b \input{loop}"})
    assert record.sections[0].text == "a b"
    assert ["gone" in n.reason or "itself" in n.reason or "out of the folder" in n.reason for n in reading.notes] == [True] * 5


def test_a_part_yields_nothing_for_itself_but_an_orphan_does(paper, tmp_path):
    paper(r"\input{sec/part}", **{"sec/part.tex": "P \\input{sec/sub}", "sec/sub.tex": "S", "sec/ring.tex": "R \\input{ring2}", "sec/ring2.tex": "\\input{ring}"})
    (tmp_path / "sec" / "orphan.tex").write_text("Orphan text")

    def sections(name):
        return [section.text for record in latex.read(tmp_path / "sec" / name, tmp_path, Reading()) for section in record.sections]

    assert sections("part.tex") == sections("sub.tex") == sections("ring2.tex") == []
    assert sections("orphan.tex") == ["Orphan text"] and sections("ring.tex") == ["R"]


def test_a_folder_gives_each_paper_once(tmp_path):
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "abstract.tex").write_text("About it.")
        (folder / "main.tex").write_text(r"\documentclass{a}\title{T}\begin{document}\input{abstract} \cite{k}\bibliography{refs}\end{document}")
        (folder / "refs.bib").write_text("@article{k, title={Known work}, author={Lo, Kyle}, year=2020}\n@article{other, title={Not cited}}")
    records = [found.item for found in gather([tmp_path], Reading())]
    assert [(r.id, r.aliases, [x.key for x in r.references]) for r in records] == [(n, (f"{n}/main.tex", f"{n}/main"), ["k"]) for n in ("a", "b")]
    assert cited(records[0]) == [("Lo, 2020", "k")]


def test_bibliographies(paper):
    bib = {"refs.bib": "@article{lo, title={The {S2ORC} corpus}, doi={10.1234/abc}, abstract={Much text.}}\n@article{more, title={More}}"}
    both, _ = paper(r"\cite{lo,more}\bibliography{refs}", **bib)
    assert [r.key for r in both.references] == ["lo", "saier", "plain"]
    assert (both.references[0].title, both.references[0].doi) == ("The S2ORC corpus", "10.1234/abc")
    assert both.references[0].text.endswith("\n\nMuch text.")
    embedded, _ = paper(f"\\cite{{saier}} {BBL}", bbl="", **{"x.bbl": ""})
    assert [r.key for r in embedded.references] == ["lo", "saier", "plain"] and embedded.sections[0].text == "(Saier and Färber, 2019)"
    everything, _ = paper(r"a \nocite{*}\addbibresource{refs.bib}", bbl="")
    assert [r.key for r in everything.references] == ["lo", "more"]
    only, reading = paper(r"\cite{lo}", bbl="", **{"x.bbl": "", **bib})  # an empty .bbl is what a failed run leaves
    assert [r.key for r in only.references] == ["lo"] and "only one" in reading.notes[-1].reason


@pytest.mark.parametrize(("declared", "encoding"), [("latin1", "latin-1"), ("applemac", "mac-roman"), ("latin9", "iso8859-15"), ("utf8", "utf-8")])
def test_declared_encodings(paper, declared, encoding):
    record, reading = paper(**{"x.tex": f"\\documentclass{{a}}\\usepackage[{declared}]{{inputenc}}\\begin{{document}}Färber é".encode(encoding)})
    assert record.sections[0].text == "Färber é" and not reading.notes


# -- folders ----------------------------------------------------------------------------------------------------------------------------------


def test_pipes_and_links_out_of_the_folder_are_not_opened(tmp_path, monkeypatch):
    folder, outside = tmp_path / "papers", tmp_path / "outside.tex"
    folder.mkdir()
    outside.write_text(r"\documentclass{a}\begin{document}\input{part}\end{document}")
    (folder / "main.tex").write_text(r"\documentclass{a}\begin{document}Text.\end{document}")
    (folder / "part.tex").write_text("Left over.")
    os.mkfifo(folder / "pipe.tex")
    (folder / "link.tex").symlink_to(outside)
    opened = []
    read = Reading.raw
    monkeypatch.setattr(Reading, "raw", lambda reading, path: opened.append(path.name) or (b"" if path.name == "pipe.tex" else read(reading, path)))
    records = [found.item for found in gather([folder], Reading())]
    assert [record.id for record in records] == ["papers", "part"] and set(opened) == {"main.tex", "part.tex"}


def test_a_link_that_is_named_itself_is_read(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "m.tex").write_text(r"\documentclass{a}\begin{document}Text.\end{document}")
    (tmp_path / "named").mkdir()
    (tmp_path / "named" / "l.tex").symlink_to(tmp_path / "real" / "m.tex")
    assert [found.item.id for found in gather([tmp_path / "named" / "l.tex"], Reading())] == ["l"]


def test_left_overs_are_noted_and_each_file_is_looked_at_once(tmp_path, monkeypatch):
    for number in range(30):
        (tmp_path / f"p{number}" / "old").mkdir(parents=True)
        (tmp_path / f"p{number}" / "main.tex").write_text(r"\documentclass{a}\begin{document}Text. \input{used}\end{document}")
        (tmp_path / f"p{number}" / "used.tex").write_text("Used.")
        (tmp_path / f"p{number}" / "old" / "left.tex").write_text("Left over.")
    cleaned = []
    clean = corpus.clean
    monkeypatch.setattr(corpus, "clean", lambda text, literals: cleaned.append(text) or clean(text, literals))
    reading = Reading()
    records = [found.item for found in gather([tmp_path], reading)]
    assert len(records) == 60 and len(cleaned) == 90
    notes = [note.where for note in reading.notes if note.reason == "included by no paper; read as one of its own"]
    assert notes == [record.where for record in records if record.id.endswith("left")] and len(notes) == 30


def test_an_inclusion_is_found_wherever_it_stands_and_the_limit_is_noted(tmp_path, monkeypatch):
    (tmp_path / "papers").mkdir()
    (tmp_path / "shared").mkdir()
    (tmp_path / "papers" / "a.tex").write_text(r"\documentclass{a}\begin{document}A \import{../shared/}{part}\end{document}")
    (tmp_path / "shared" / "part.tex").write_text("Part.")
    part = tmp_path / "shared" / "part.tex"
    reading = Reading()
    assert not list(latex.read(part, tmp_path, reading)) and "read with it" in reading.notes[0].reason
    monkeypatch.setattr(corpus, "MAX_LOOKED_AT", 0)
    reading = Reading()
    assert len(list(latex.read(part, tmp_path, reading))) == 1
    assert [("looked for" in note.reason, "own" in note.reason) for note in reading.notes] == [(True, False), (False, True)]
