"""Markdown beyond CommonMark: mathematics, and the links, embedded files and comments of Obsidian."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphkv.importers.build import build_graph
from graphkv.importers.formats import read_file
from graphkv.importers.links import file_names
from graphkv.importers.reading import Reading
from graphkv.importers.record import Record


def page(folder: Path, text: str, name: str = "Projects/Sub/a.md", reading: Reading | None = None) -> Record:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    (found,) = read_file(path, folder, reading or Reading(), "markdown")
    assert isinstance(found, Record)
    return found


@pytest.mark.parametrize(
    "text",
    [
        r"Inline $a*b*c$ and $x_{i}*y_{i}$ and $\{1,2\}$ and $\|x\|_2$.",
        r"a $$\|x\|_2 *y* \$ $z$$ b",
        r"$\text{costs \$5} *a*$",
        r"其中$x*y*z$是",
        "$$\n\\begin{pmatrix} a & b \\\\\nc & *d* \\end{pmatrix}\n$$",
        "$$ \\{a\\}\n  * b *\n- c $$",
        "$$\\|x\\| *a*$$",
        "$$\n$$",
    ],
)
def test_mathematics_stays_as_it_is(tmp_path: Path, text: str) -> None:
    (section,) = page(tmp_path, text).sections
    assert section.text == text


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("$5 and *10*$ or $ a*b*c$ or $a*b*c $", "$5 and *10*$ or $ abc$ or $abc $"),
        ("$5*a*/$10", "$5a/$10"),  # a digit behind the closing one
        (r"\$a*b*c$", "$abc$"),
        ("US$a*b*c$", "US$abc$"),
        ("`$a*b*c$`", "$a*b*c$"),
        ("$a\n\n*b*$", "$a\n\nb$"),
        ("$$a\n\n*b*$$", "$$a\n\nb$$"),
        ("before\n$$\n*a*\n$$\nafter *b*", "before\n\n$$\n*a*\n$$\n\nafter b"),
        ("$$\n*a*\n$$ after *b*", "$$ *a* $$ after b"),
        ("> $$\n> *a*\n> $$\n\n- $$\n  *b*\n  $$\n- $$\n*c*", "$$\n*a*\n$$\n\n- $$\n*b*\n$$\n\n- $$ c"),
        ("    $$\n    *a*\n    $$", "```\n$$\n*a*\n$$\n```"),
        ("x $ *y*", "x $ y"),
    ],
)
def test_what_is_no_mathematics(tmp_path: Path, text: str, read: str) -> None:
    (section,) = page(tmp_path, text).sections
    assert section.text == read


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("a %%no [[b]]%% c", "a c"),
        ("a\n\n%%\nno\n\n# no [[b]]\n%%\n\nc", "a\n\nc"),
        ("a\n\n%% no %%\n\nc", "a\n\nc"),
        ("5%% of a and 6%% of b", "5%% of a and 6%% of b"),
        ("%% open", "%% open"),
        ("%% no %% c", "c"),
        ("`%%a%%`", "%%a%%"),
        ("a ![[picture.PNG|300]] ![[p.webp|300]] ![[Sub/v.mp4]] b", "a b"),
        ("a ![[Note|words]] b", "a words b"),
    ],
)
def test_comments_and_embedded_files(tmp_path: Path, text: str, read: str) -> None:
    found = page(tmp_path, text)
    assert [section.text for section in found.sections] == [read]
    assert [r.key for r in found.references] == (["Note"] if "[[Note" in text else [])


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("[[../Graph Reading]]", "Projects/Graph Reading"),
        ("[[../../b.md#Key Idea|x]]", "b#key-idea"),
        ("[[./b]]", "Projects/Sub/b"),
        ("[[../../../b]]", None),
        ("[md](../b.md#Second%20Part)", "Projects/b.md#second-part"),
        ("[md](../b#Second)", "Projects/b#second"),
        ("[md](#Outer#Inner%20Part!)", "Projects/Sub/a.md#inner-part"),
        ("[md](b.md#^Block)", "Projects/Sub/b.md"),
        ("[md](b.md#a.slug_is-kept)", "Projects/Sub/b.md#a.slug_is-kept"),
        ("[html](b.html#Foo.Bar)", "Projects/Sub/b.html#Foo.Bar"),
    ],
)
def test_what_links_mean_to_obsidian(tmp_path: Path, link: str, target: str | None) -> None:
    reading = Reading()
    assert [r.target for r in page(tmp_path, f"text {link} more", reading=reading).references] == ([target] if target else [])
    assert bool(reading.notes) == (target is None)


def test_names_of_files(tmp_path: Path) -> None:
    """Every tail of the path; but ``b/c.md`` is not a/b/c.md where there is another file of that path."""
    assert file_names(tmp_path / "a" / "b" / "c.md", tmp_path) == ("a/b/c", ("a/b/c.md", "b/c", "b/c.md", "c", "c.md"))
    page(tmp_path, "x", "b/c.md")
    assert file_names(tmp_path / "a" / "b" / "c.md", tmp_path) == ("a/b/c", ("a/b/c.md", "b/c", "c", "c.md"))
    assert file_names(tmp_path / "a" / "LICENSE", tmp_path) == ("a/LICENSE", ("LICENSE",))


def test_a_vault_becomes_a_graph(tmp_path: Path) -> None:
    """Notes named by a tail of their path, by a relative path, and by the headings themselves."""
    page(tmp_path, "Lead. ^abc\n\n# First\none\n# Second Part\ntwo", "Attention.md")
    page(tmp_path, "# Deep Note\nIntro.\n## Key Idea\nBack to [[../Reading]].", "Projects/Sub/Deep Note.md")
    page(tmp_path, "See ![[Sub/Deep Note#Key Idea]], [md](../Attention.md#Second%20Part), [[Attention#^abc]].", "Projects/Reading.md")
    page(tmp_path, "Docs, [up](../README.md).", "Projects/README.md")
    page(tmp_path, "Top.", "README.md")
    build = build_graph(tmp_path)
    found = {(edge[0], edge[1]) for edge in build.graph.edges if edge.kind == "links"}
    assert found == {
        ("Projects/Sub/Deep Note/1", "Projects/Reading"),
        ("Attention/2", "Projects/Reading"),
        ("Attention", "Projects/Reading"),
        ("Projects/Reading", "Projects/Sub/Deep Note/1"),
        ("README", "Projects/README"),
    }
    titles = {segment.id: segment.title for segment in build.graph.segments}
    assert (titles["Attention"], titles["Attention/2"]) == ("Attention", "Attention – Second Part")
    assert not build.report.unresolved and not build.report.notes
