"""Folders of linked pages: plain text, Markdown and HTML."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphkv import DocumentError
from graphkv.importers.build import build_graph
from graphkv.importers.formats import ENDINGS, read_file
from graphkv.importers.links import slug
from graphkv.importers.reading import Reading
from graphkv.importers.record import Record

MARKDOWN = """---
title: "Graphs: a guide"   # the title
aliases: [Graph Guide, 'GG']
tags:
  - maths
  - drawing
other: {a: 1}
---
Before *any* heading, see [the **second**
page](../b.md#part-two "t").

# Graphs

- one [x](b%20c.md)
- two `code [no](link.md)`
  1. inner

  last

| a | b |
|---|---|
| 1 | [[Note\\|shown]] |

```py
x = [1](y.md)
```

## Part [one][ref] ![alt text](p.png)

Hard\\
break <b>bold</b><br>[[Note#Some Heading]] and ![[pic.png]] [[#Graphs]].

## Empty
### Deeper

Works: [a](https://arxiv.org/abs/2506.07334v2), <https://doi.org/10.18653/v1/N18-3011>, [site](https://example.org/a.md), [p](p.png), [up](../../../etc/passwd).

### Deeper

[folder](../docs/) [same](#part-one) [a][ref] <a name="z"></a>
<a href="h.html">[inner]</a>

<div><!-- no --><p>Block <a href="/b.md">html</a></p><script>bad()</script></div>

[ref]: other.md
"""

HTML = """<!DOCTYPE html>
<html><head><title> The  page </title><meta charset="utf-8"><style>p {}</style></head>
<body><nav><a href="nav.html">Menu</a></nav>
<p>Intro with <a href="b.html#s2">a <b>link</b></a> &amp; an &eacute;.<script>var x = "<p>no</p>";</script>
<p>Second<br>line<!-- hidden --> here
<a name="old"></a>
<h1>Heading <em>one</em></h1>
<ul><li>first<li><a href="../up.html">second</a><ol><li>deep</li></ol></ul>
<section id="s2"><h2>Two<a class="headerlink" href="#s2">&para;</a></h2>
<table><tr><th>a</th><th>b</th></tr><tr><td>1</td><td><a href="c%20d.html?x=1">two</a></td></tr></table></section>
<h3 id="own"><a href="t.html">Linked heading</a></h3>
<pre>  kept
    as is</pre>
<p><a href="mailto:x@y.z">mail</a> <a href="pic.jpg"><img src="pic.jpg" alt="a picture"></a> <a href="e.html"></a>
"""


def page(text: str | bytes, name: str = "docs/sub/a.md", reading: Reading | None = None) -> Record:
    with TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "docs" / "sub").mkdir(parents=True)
        (root / "docs" / "docs").mkdir()
        (root / "docs" / "docs" / "README.md").write_text("# x")
        path = root / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        (record,) = read_file(path, root, reading or Reading(), ENDINGS[path.suffix])
    assert isinstance(record, Record)
    assert all(0 <= c.start < c.end <= len(s.text) and c.key in {r.key for r in record.references} for s in record.sections for c in s.citations)
    assert len({r.key for r in record.references}) == len(record.references)
    return record


def links(record: Record) -> list[list[tuple[str, str]]]:
    """For each section the words of each link and what it means."""
    return [[(s.text[c.start : c.end], c.key) for c in s.citations] for s in record.sections]


def test_markdown() -> None:
    reading = Reading()
    found = page(MARKDOWN, reading=reading)
    assert (found.id, found.title, found.role) == ("docs/sub/a", "Graphs: a guide", "document")
    assert found.aliases == ("docs/sub/a.md", "sub/a", "sub/a.md", "a", "a.md", "Graph Guide", "GG") and found.metadata == {"tags": ["maths", "drawing"]}
    assert [(s.heading, s.anchor) for s in found.sections] == [
        ("", None),
        ("Graphs", "graphs"),
        ("Part one alt text", "part-one"),
        ("Empty > Deeper", "deeper"),
        ("Deeper", "deeper-1"),
    ]
    before, graphs, part, works, rest = (s.text for s in found.sections)
    assert before == "Before any heading, see the second page."
    assert graphs == "- one x\n- two code [no](link.md)\n  1. inner\n\nlast\n\na | b\n1 | shown\n\n```py\nx = [1](y.md)\n```"
    assert part == "Part one alt text\n\nHard\nbreak bold\nNote > Some Heading and Graphs."
    assert works == "Works: a, https://doi.org/10.18653/v1/N18-3011, site, p, up."
    assert rest == "folder same a [inner]\n\nBlock html"
    assert links(found) == [
        [("the second page", "docs/b.md#part-two")],
        [("x", "docs/sub/b c.md"), ("shown", "Note")],
        [("one", "docs/sub/other.md"), ("Note > Some Heading", "Note#some-heading"), ("Graphs", "docs/sub/a.md#graphs")],
        [("a", "arxiv:2506.07334"), ("https://doi.org/10.18653/v1/N18-3011", "doi:10.18653/v1/n18-3011")],
        [("folder", "docs/docs/README.md"), ("same", "docs/sub/a.md#part-one"), ("a", "docs/sub/other.md"), ("[inner]", "docs/sub/h.html"), ("html", "b.md")],
    ]
    works_of = {r.key: (r.target, r.arxiv, r.doi, r.kind) for r in found.references}
    assert works_of["arxiv:2506.07334"] == (None, "2506.07334", None, "links") and works_of["doi:10.18653/v1/n18-3011"][2] == "10.18653/v1/n18-3011"
    assert works_of["docs/b.md#part-two"] == ("docs/b.md#part-two", None, None, "links")
    (note,) = reading.notes
    assert re.fullmatch(r"left out: 1 links that lead out of the folder \S+, 2 links to files of other kinds, 1 links to other sites", note.reason)


@pytest.mark.parametrize(
    ("text", "title", "sections"),
    [
        ("# One\n", "One", []),
        ("text", "a", [("", "text")]),
        ("# One\n\n## Two\n\nx\n\n## Three\n", "One", [("Two", "x"), ("", "Three")]),
        ("Title\n=====\n\nx\n\n## Second\n\ny", "Title", [("", "x"), ("Second", "y")]),
        ("# First\n\nx\n\n# Second\n\ny", "a", [("First", "x"), ("Second", "y")]),
        ("before\n\n# First\n\nx", "a", [("", "before"), ("First", "x")]),
        ("---\ntitle: T\n---\nbefore [[b]]\n\n# T\n\nx [[c]]", "T", [("", "before b\n\nx c")]),
        ("---\nno front matter", "a", [("", "no front matter")]),
        ("---\ntitle: T\n---\n", "T", []),
        ("> # quoted\n\n- # listed\n", "a", [("", "quoted\n\n- listed")]),
        ("-\n-\n\nafter", "a", [("", "after")]),
    ],
)
def test_titles_and_sections(text: str, title: str, sections: list[tuple[str, str]]) -> None:
    found = page(text)
    assert (found.title, [(s.heading, s.text) for s in found.sections]) == (title, sections)


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("[x](b.md)", "docs/sub/b.md"),
        ("[x](./b)", "docs/sub/b"),
        ("[x](../b.md#A%20b)", "docs/b.md#a-b"),
        ("[x](/docs/b.md)", "docs/b.md"),
        ("[x](..)", "docs"),
        ("[x](%2e%2e/%2e%2e/%2e%2e/secret.md)", None),
        ("[x](../../../secret.md)", None),
        ("[x](b.md%00c)", None),
        ("[x](//host/b.md)", None),
        ("[x](https://[bad)", None),
        ("[x](file:///etc/passwd)", None),
        ("[x](#)", None),
        ("[x](v1.2)", "docs/sub/v1.2"),
        ("[x](prog.py)", None),
        ("[[../../../etc/passwd]]", None),
        ("[[/etc/passwd]]", None),
        ("[[Dr. No]]", "Dr. No"),
        ("[[sub/Note.md|n]]", "sub/Note"),
        ("[[Note#A#B b]]", "Note#b-b"),
        ("[[Note#^block]]", "Note"),
        ("[[ | x]]", None),
        ("[x](https://arxiv.org/pdf/hep-th/9901001.pdf)", "arxiv:hep-th/9901001"),
        ("[x](https://arxiv.org/list/cs)", None),
        ("[](b.md)", "docs/sub/b.md"),
        ("[![](i.png)](b.md)", "docs/sub/b.md"),
        ("<a name=q></a>[x <a id=y></a> z](b.md)", "docs/sub/b.md"),
    ],
)
def test_what_links_mean(link: str, target: str | None) -> None:
    found = page(f"text {link} more")
    assert [r.key for r in found.references] == ([target] if target else [])
    assert len(links(found)[0]) == len(found.references)


def test_slugs() -> None:
    assert [slug(t) for t in ("Über uns!", "a_b - c", "C++ & D", "  x  ")] == ["über-uns", "a_b---c", "c--d", "x"]


def test_html() -> None:
    reading = Reading()
    found = page(HTML, "docs/sub/a.html", reading)
    assert (found.id, found.title, found.aliases) == ("docs/sub/a", "The page", ("docs/sub/a.html", "sub/a", "sub/a.html", "a", "a.html"))
    assert [(s.heading, s.anchor, s.text) for s in found.sections] == [
        ("", None, "Intro with a link & an é.\n\nSecond\nline here"),
        ("Heading one", "old", "- first\n- second\n  1. deep"),
        ("Two", "s2", "a | b\n1 | two"),
        ("Linked heading", "own", "Linked heading\n\n  kept\n    as is\n\nmail a picture e.html"),
    ]
    assert links(found) == [
        [("a link", "docs/sub/b.html#s2")],
        [("second", "docs/up.html")],
        [("two", "docs/sub/c d.html")],
        [("Linked heading", "docs/sub/t.html"), ("e.html", "docs/sub/e.html")],
    ]
    (note,) = reading.notes
    assert note.reason == "left out: 1 links to files of other kinds, 1 links to other sites"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("<p>é".encode("latin-1"), "é"),
        ('<meta charset="windows-1251"><p>Привет'.encode("cp1251"), "Привет"),
        ('<?xml version="1.0" encoding="iso-8859-2"?><p>ł</p>'.encode("iso8859-2"), "ł"),
        ('<meta charset="idna"><p>é'.encode(), "é"),
        ('<meta charset="utf-7"><p>é'.encode(), "é"),
        ("<p>漢".encode("utf-16"), "漢"),
        ("\ufeff<p>x".encode(), "x"),
        (b"<p>a</b></i>b<table><td>c<p>d</table>&nosuch;&#0;&#x110000;e", "ab\n\nc d\n\n&nosuch;\ufffd\ufffde"),
        (b"<div>" * 300 + b"deep", "deep"),
        (b"<base href=sub/><a href=x.html>y</a>", "y"),
        (b"<a href=x><h2>card</h2><p>more</p></a>", "card\n\nmore"),
    ],
)
def test_html_as_it_comes(data: bytes, text: str) -> None:
    assert page(data, "docs/sub/a.html").sections[0].text == text


def test_a_base_moves_links_and_a_card_is_one_link() -> None:
    assert links(page(b"<base href=sub/><a href=x.html>y</a>", "docs/sub/a.html")) == [[("y", "docs/sub/sub/x.html")]]
    assert page(b"<base href='https://x.org/'><a href=x.html>y</a>", "docs/sub/a.html").references == ()
    card = page(b"<a href=x><h2>card</h2><p>more</p></a><h2>b</h2>c", "docs/sub/a.html")
    assert links(card) == [[("card", "docs/sub/x")], []]


@pytest.mark.parametrize(
    ("data", "name", "message"),
    [
        (b"", "docs/sub/a.md", "holds no text"),
        (b"<!-- -->", "docs/sub/a.md", "holds no text"),
        (b"", "docs/sub/a.html", "is empty"),
        (b"<p> </p><script>x</script>", "docs/sub/a.html", "holds no text"),
        (b"<div>" * 9000 + b"deep", "docs/sub/a.html", "Excessive depth"),
        (b"a\x00b", "docs/sub/a.html", "is not text"),
        (b" \n\n", "docs/sub/a.txt", "is empty"),
        (b"\x00", "docs/sub/a.txt", "is not text"),
    ],
)
def test_pages_that_cannot_be_read(data: bytes, name: str, message: str) -> None:
    with pytest.raises(DocumentError, match=message):
        page(data, name)


def test_plain_text() -> None:
    found = page("  One  \r\n\r\n\r\n\r\ntwo\t\nthree\n", "docs/notes.v1.txt")
    assert (found.id, found.title, found.aliases, found.role) == ("docs/notes.v1", None, ("docs/notes.v1.txt", "notes.v1", "notes.v1.txt"), "document")
    assert [s.text for s in found.sections] == ["One\n\ntwo\nthree"]


def test_a_link_to_a_folder_does_not_follow_links_of_the_system(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "README.md").write_text("secret")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "docs").symlink_to(tmp_path / "outside")
    (tmp_path / "root" / "a.md").write_text("[x](docs/)")
    reading = Reading()
    (found,) = read_file(tmp_path / "root" / "a.md", tmp_path / "root", reading, "markdown")
    assert isinstance(found, Record) and [r.target for r in found.references] == ["docs"]
    assert "leads out of the folder" in reading.notes[0].reason


def test_deep_and_long_markdown_is_bounded() -> None:
    for text in ("[" * 5000 + "x", "[[" * 5000 + "x", "![](" * 3000 + "x", "*" * 9000 + "x", "<a href=x>" * 3000 + "x", "[a](b)" * 3000, "$a " * 5000, "$$" * 5000, "$$\n" * 5000, "$" + "\\$" * 5000, "%%\nx\n" * 5001, "%%" * 5001 + "x"):
        assert page(text).sections[0].text
    assert page("- " * 40 + "x").sections[0].text.endswith("- x")
    for mark in ("> ", "- "):
        reading = Reading()
        assert page(f"before\n\n{mark * 5000}x", reading=reading).sections[0].text == "before"
        assert [s.reason for s in reading.skipped] == ["what is nested deeper than 100 blocks"]


PIECES = [b"[[", b"]]", b"[x](", b")", b"# ", b"\n\n", b"<a href=y>", b"</a>", b"<h2 id=q>", b"</h2>", b"<li>", b"</ul>", b"<pre>", b"|", b"---\n", b"```", b"- ", b"> ", b"&#0;", b"\xff", b"\x0b", b"..", b"%00", b"#", b"<base href=//[>", b"<table>"]


@given(st.sampled_from([MARKDOWN, HTML]), st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 60), st.sampled_from(PIECES) | st.binary(max_size=3)), max_size=6), st.sampled_from(["md", "html", "txt"]))
@settings(max_examples=200, deadline=None)
def test_damaged_pages_give_a_record_or_a_document_error(sample: str, changes: list[tuple[int, int, bytes]], ending: str) -> None:
    data = sample.encode()
    for start, length, new in changes:
        data = data[:start] + new + data[start + length :]
    try:
        found = page(data, f"docs/sub/a.{ending}")
    except DocumentError:
        return
    assert all(not (r.target or "").startswith(("..", "/")) for r in found.references)


@given(st.lists(st.sampled_from(PIECES) | st.binary(max_size=6), max_size=20).map(b"".join), st.sampled_from(["md", "html", "txt"]))
@settings(max_examples=200, deadline=None)
def test_anything_gives_a_record_or_a_document_error(data: bytes, ending: str) -> None:
    with contextlib.suppress(DocumentError):
        page(data, f"docs/sub/a.{ending}")


def test_a_folder_becomes_a_graph(tmp_path: Path) -> None:
    """Markdown, HTML and text that link to one another: an edge from what is linked to the section that links to it."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "index.md").write_text("# Start\n\nSee [setup](sub/guide.html#setup), [[Note]], [[note text]] and [nothing](none.md).\n")
    (tmp_path / "sub" / "guide.html").write_text("<title>Guide</title><p>Intro, <a href='../index.md'>home</a>.<h2 id=setup>Set-up</h2><p>Do it, <a href='../index.md'>home</a>.")
    (tmp_path / "sub" / "Note.md").write_text("Words.\n\n## More\n\n[[index]] and [again](../index.md)\n")
    (tmp_path / "note text.txt").write_text("Plain.")
    build = build_graph(tmp_path)
    assert build.graph.ids == ("index", "note text", "sub/Note", "sub/Note/1", "sub/guide", "sub/guide/1")
    found = {(edge[0], edge[1]): edge.weight for edge in build.graph.edges if edge.kind == "links"}
    assert found == {("sub/guide/1", "index"): 1, ("sub/Note", "index"): 1, ("note text", "index"): 1, ("index", "sub/guide"): 1, ("index", "sub/guide/1"): 1, ("index", "sub/Note/1"): 2}
    assert [u.name for u in build.report.unresolved] == ["none.md"]


def test_links_of_a_real_page_are_counted_twice() -> None:
    """The project's README: links by a regular expression on the source, and by the importer."""
    path = Path(__file__).parents[2] / "README.md"
    source = re.sub(r"(?ms)^ *```.*?^ *```|^    .*?$", "", path.read_text(encoding="utf-8"))
    wanted = [target for target in re.findall(r"(?<!!)\[[^\[\]]*\]\(([^()\s]+)\)", source) if not target.startswith("http") or "arxiv.org" in target or "doi.org" in target]
    (found,) = read_file(path, path.parent, Reading(), "markdown")
    assert isinstance(found, Record) and len(wanted) > 5
    targets = [key for section in found.sections for _, key in [(c.start, c.key) for c in section.citations]]
    kinds = [target for target in wanted if not target.endswith((".png", ".svg", ".py", ".toml", ".yml"))]
    assert len(targets) == len(kinds)
