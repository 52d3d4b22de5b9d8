"""HTML as Sphinx, MkDocs and others write it: what is the page, and what only stands around it."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphkv.importers.build import build_graph
from graphkv.importers.formats import read_file
from graphkv.importers.reading import Reading
from graphkv.importers.record import Record

SPHINX = """<!DOCTYPE html><html><head><title>Installation &#8212; Foo 1.0 documentation</title></head><body>
<div class="related" role="navigation"><h3>Navigation</h3><ul><li><a href="genindex.html">index</a></li></ul></div>
<div class="document"><div class="body" role="main">
<section id="installation"><h1>Installation<a class="headerlink" href="#installation" title="Link">¶</a></h1>
<p>Use pip, see <a href="api.html">the API</a>.</p>
<section id="from-source"><h2>From source<a class="headerlink" href="#from-source">¶</a></h2><p>Clone.</p>
<dl><dt id="foo.Bar">class Foo.Bar<a href="#foo.Bar">¶</a></dt><dd>A class.</dd></dl></section></section></div></div>
<div class="sphinxsidebar"><h3>Quick search</h3><form action="search.html"><a href="search.html">Go</a></form></div>
<div class="footer">2023, <a href="_sources/index.rst.txt">Page source</a></div></body></html>"""
API = "<html><head><title>API - Foo</title></head><body><header>Foo <a href='install.html'>Up</a></header><main><h1>API</h1><p>See <a href='install.html'>install</a>.</p></main><footer>Made</footer></body></html>"


def page(folder: Path, text: str) -> Record:
    (folder / "a.html").write_text(text, encoding="utf-8")
    (found,) = read_file(folder / "a.html", folder, Reading(), "html")
    assert isinstance(found, Record)
    for section in found.sections:
        assert all(section.text[c.start : c.end].strip() for c in section.citations)
    return found


def sections(found: Record) -> list[tuple[str, str]]:
    return [(section.heading, section.text) for section in found.sections]


def test_a_page_of_sphinx(tmp_path: Path) -> None:
    """A plain link reads the text under the title; sidebar, search and footer are neither text nor links."""
    (tmp_path / "install.html").write_text(SPHINX)
    (tmp_path / "api.html").write_text(API)
    build = build_graph(tmp_path)
    segments = {segment.id: (segment.title, segment.text) for segment in build.graph.segments}
    assert segments == {
        "api": ("API", "See install."),
        "install": ("Installation", "Use pip, see the API."),
        "install/1": ("Installation – From source", "Clone.\n\nclass Foo.Bar\n\nA class."),
    }
    assert {(u, v) for u, v in ((e[0], e[1]) for e in build.graph.edges if e.kind == "links")} == {("install", "api"), ("api", "install")}
    assert not build.report.unresolved and not build.report.notes


@pytest.mark.parametrize(
    ("said", "headings", "title"),
    [
        ("Usage - Foo", ["Usage"], "Usage"),
        ("Foo: Usage", ["Usage"], "Usage"),
        ("Usage - Foo", ["Usage", "More"], "Usage"),
        ("Usage - Foo", ["Foo", "Usage"], "Usage - Foo"),  # the site's own heading is on every page
        ("Usages - Foo", ["Usage"], "Usages - Foo"),
        ("Usage - Foo", [], "Usage - Foo"),
        ("", ["Usage"], "Usage"),
        ("", ["Usage", "More"], "a"),
        ("C# - Foo", ["C#"], "C#"),
    ],
)
def test_titles(tmp_path: Path, said: str, headings: list[str], title: str) -> None:
    body = "".join(f"<h1>{heading}</h1><p>x</p>" for heading in headings) or "<p>x</p>"
    assert page(tmp_path, f"<title>{said}</title>{body}").title == title


def test_what_stands_in_front_of_the_title_goes_with_what_stands_under_it(tmp_path: Path) -> None:
    found = page(tmp_path, "<title>T - Site</title><p><a href=b.html>Home</a></p><h1>T</h1><p>See <a href=c.html>c</a>.</p><h2>U</h2>v")
    assert (found.title, sections(found)) == ("T", [("", "Home\n\nSee c."), ("U", "v")])
    assert [(c.start, c.end, c.key) for c in found.sections[0].citations] == [(0, 4, "b.html"), (10, 11, "c.html")]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("<main>in</main>out", "in"),
        ("<div role='MAIN'>in<div role=main>ner</div></div>out", "in\n\nner"),
        ("<main>one</main>out<main>two</main>", "one\n\ntwo"),
        ("<main> </main>out", "out"),
        ("<template><main>no</main></template>out", "out"),
        ("<header>a</header><aside>b</aside><footer>c</footer>", "a\n\nb\n\nc"),
        ("<main><header>a</header><aside>b</aside><footer>c</footer></main>", "a\n\nb\n\nc"),
        ("<div role=navigation>a</div><div role=search>b</div><div role=banner>c</div><p role='contentinfo doc'>d</p>in", "in"),
        ("a <a href=b.html>#</a><a href=#c> ¶ </a><a href=#c class='x headerlink'>link</a>b", "a b"),
        ("a <a href=b.html>#1</a>", "a #1"),
        ("<table><tr><td><p>1</p></td><td><p>2</p><p>3<br>4</td></tr><tr><td><ul><li>5</ul></td><td><div>6</div></td></tr></table>", "1 | 2 3 4\n5 | 6"),
        ("<table><tr><td><p>1</p><p>2</p><table><tr><td><p>3</p></td><td>4</td></tr></table></td></tr></table>", "1\n\n2\n\n3 | 4"),
    ],
)
def test_what_is_text(tmp_path: Path, body: str, text: str) -> None:
    assert "\n\n".join(section.text for section in page(tmp_path, f"<body>{body}</body>").sections) == text


def test_links_of_the_main_part_are_relative_to_the_base(tmp_path: Path) -> None:
    assert [r.key for r in page(tmp_path, "<head><base href='sub/'></head><main><a href=b.html>b</a></main>").references] == ["sub/b.html"]
