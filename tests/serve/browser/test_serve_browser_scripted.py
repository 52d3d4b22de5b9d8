"""The page at / in headless Chromium, before a server that follows a script: documents in, the answer streamed, everything that can go wrong said in one line."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from page_helpers import KEY, Script, ask, chunk, cite, lit, needs_chromium, row, upload, usage
from playwright.sync_api import Page, expect

pytestmark = [needs_chromium, pytest.mark.timeout(60)]

HOSTILE = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>"


# --- documents


def test_files_become_documents(page: Page) -> None:
    files = [("notes.md", b"# Notes\nSome."), ("more.txt", b"Text."), ("rows.jsonl", b'{"id": 7, "text": "x", "cites": ["notes.md", "b"]}\n\n{"text": "no id"}\n{"id": "doc_5", "text": "y"}')]
    page.set_input_files("#files", [{"name": name, "mimeType": "", "buffer": content} for name, content in files])
    expect(page.locator("#rows tr")).to_have_count(7)
    expect(page.locator("#documents-note")).to_have_text("5 documents added.")
    assert [cell.inner_text() for cell in page.locator("td.id").all()] == ["a", "b", "notes.md", "more.txt", "7", "doc_6", "doc_5"]
    expect(row(page, "7").locator(".chip")).to_have_count(2)
    expect(page.locator(".node")).to_have_count(7)
    expect(page.locator(".edge")).to_have_count(3)
    upload(page, "notes.md", "Newer.")
    expect(page.locator("#documents-note")).to_contain_text("in place of one with the same id")
    expect(page.locator("#rows tr")).to_have_count(7)


def test_a_file_that_cannot_be_read_is_named_in_one_line(page: Page) -> None:
    for name, content, line in (
        ("a.pdf", b"%PDF", "a.pdf: expected a .txt, .md, .json or .jsonl file"),
        ("a.txt", b"\xff\xfe\x00", "a.txt: is not UTF-8 text"),
        ("a.txt", b"  \n", "a.txt: is empty, expected some text"),
        ("a.jsonl", b'{"id": "x", "text": "y"}\n{"id"', "a.jsonl, line 2: is not JSON"),
        ("a.json", b"[1]", "a.json, document 1: expected an object with id, title, text and sources"),
        ("a.json", b'[{"id": "x"}]', 'a.json, document 1: expected a key "text" with some text'),
        ("a.json", b'[{"id": "x", "text": "y", "sources": "z"}]', 'a.json, document 1: "sources" must be a list of ids'),
        ("a.json", b'[{"id": "x", "text": "y"}, {"id": "x", "text": "z"}]', 'a.json: the id "x" is there twice'),
        ("a.json", b"[]", "a.json: holds no documents"),
    ):
        upload(page, name, content)
        expect(page.locator("#documents-error")).to_contain_text(line)
        expect(page.locator("#rows tr")).to_have_count(2)
    page.set_input_files("#files", [{"name": name, "mimeType": "", "buffer": b"x"} for name in ("a.pdf", "fine.txt", "b.pdf")])
    expect(page.locator("#documents-error")).to_contain_text("(and 1 more)")
    expect(page.locator("#rows tr")).to_have_count(3)
    upload(page, "fine.txt", "Text.")
    expect(page.locator("#documents-error")).to_be_hidden()


def test_dropped_and_pasted_documents(page: Page) -> None:
    carried = page.evaluate_handle("() => { const t = new DataTransfer(); t.items.add(new File(['Dropped.'], 'dropped.txt')); return t; }")
    page.dispatch_event("body", "dragover", {"dataTransfer": carried})
    expect(page.locator("#drop")).to_be_visible()
    page.dispatch_event("body", "drop", {"dataTransfer": carried})
    expect(page.locator("#drop")).to_be_hidden()
    expect(row(page, "dropped.txt")).to_have_count(1)
    page.click("text=Paste text")
    page.fill("#paste-title", "Pasted")
    page.fill("#paste-text", "{curly} text, not JSON")
    page.click("#paste >> text=Add")
    expect(row(page, "doc_3")).to_contain_text("Pasted")
    page.fill("#paste-text", '{"id": "p1", "text": "x"}\n{"id": "p2", "text": "y", "sources": ["p1"]}')
    page.click("#paste >> text=Add")
    expect(page.locator(".node")).to_have_count(6)
    expect(page.locator(".edge")).to_have_count(2)


def test_edges_are_edited_by_keyboard(page: Page, script: Script) -> None:
    page.get_by_role("button", name="Let Alpha read another").press("Enter")
    page.keyboard.type("nobody")
    page.keyboard.press("Enter")
    expect(page.locator("#documents-error")).to_have_text('There is no document with the id "nobody"')
    page.keyboard.press("Control+a")
    page.keyboard.type("b")
    page.keyboard.press("Enter")
    expect(page.locator(".edge")).to_have_count(2)
    expect(page.locator("#documents-error")).to_be_hidden()
    expect(page.get_by_role("button", name="Let Alpha read another")).to_be_focused()
    page.get_by_role("button", name="Beta no longer reads a").press("Enter")
    expect(page.locator(".edge")).to_have_count(1)
    page.get_by_role("button", name="Remove Beta").press("Enter")
    expect(page.locator(".node")).to_have_count(1)
    expect(page.locator(".edge")).to_have_count(0)
    expect(row(page, "a").locator(".chip.gone")).to_have_text(re.compile("^b"))  # kept, in case b comes back
    script.events = [chunk("Fine."), usage(1, 1, 1)]
    ask(page, "What?")
    assert script.asked[-1]["documents"] == [{"id": "a", "title": "Alpha", "text": "One.", "sources": []}]
    upload(page, "b.json", [{"id": "b", "text": "Two again."}])
    expect(page.locator(".edge")).to_have_count(1)
    page.click("text=Remove all")
    expect(page.locator(".node")).to_have_count(0)
    expect(page.locator("#plan")).to_contain_text("No documents")


def test_markup_in_documents_and_answers_is_text(page: Page, script: Script) -> None:
    upload(page, "bad.json", [{"id": HOSTILE, "title": HOSTILE, "text": HOSTILE, "sources": ["a"]}])
    expect(page.locator(".node")).to_have_count(3)
    script.events = [chunk(HOSTILE, used={HOSTILE: 0.9}), chunk(citations=[cite(0, 10, (HOSTILE, 1.0))]), usage(1, 1, 1)]
    ask(page, HOSTILE)
    page.locator("#rows tr").last.locator("td:nth-child(2) button").click()
    for place in ("#answer", "#asked", "#detail-title", "#detail-text", "#shares", "#history"):
        expect(page.locator(place)).to_contain_text(HOSTILE)
    assert HOSTILE[:22] in page.locator(".label").all_text_contents()
    script.refusal = (400, HOSTILE, {})
    ask(page, "Again?")
    expect(page.locator("#ask-error")).to_have_text(HOSTILE)
    assert page.locator("main img, main script").count() == 0
    assert page.evaluate("window.hacked") is None


# --- asking


def test_what_is_lit_follows_the_stream(page: Page, script: Script) -> None:
    script.events = [chunk(role="assistant", content=""), 0.2, chunk("First ", used={"a": 0.6}), 1.2, chunk("second", used={"b#2": 0.3, "b#1": 0.3}), 1.2, usage(30, 10, 2)]
    ask(page, "What?", wait=False)
    expect(page.locator("#answer")).to_have_text("First ")
    expect(page.locator("#state")).to_have_text("Answering …")
    assert lit(page) == {"a"}
    expect(page.locator("#answer")).to_have_text("First second")
    assert lit(page) == {"b"}  # parts of a long document are the document
    expect(page.locator("#state")).to_have_text("Done.")
    assert lit(page) == {"a", "b"}
    expect(page.locator("#shares li")).to_have_text(["Alpha 30%", "Beta 30%"])
    expect(page.locator("#numbers")).to_contain_text("30 of this very context")
    expect(page.locator("#bar")).to_have_attribute("aria-label", "75% of the tokens read were reused")
    assert script.asked[-1]["stream_options"] == {"include_usage": True}
    assert script.asked[-1]["graph"] == {"layout": "graph", "trace": True}
    assert script.asked[-1]["documents"][1] == {"id": "b", "title": "Beta", "text": "Two.", "sources": ["a"]}


def test_citations_count_characters(page: Page, script: Script) -> None:
    script.events = [chunk("👩🏽‍🔬 says: née Ω, "), chunk("𝔘 and b"), chunk(citations=[cite(10, 15, ("b", 0.25), ("a", 0.5)), cite(17, 18, ("a", 1.0))]), usage(1, 1, 1)]
    ask(page, "Who?")
    text = "👩🏽‍🔬 says: née Ω, 𝔘 and b"
    expect(page.locator("#answer")).to_have_text(text)
    assert page.locator("mark").all_text_contents() == [text[10:15], text[17:18]]
    assert lit(page) == set()
    page.locator("mark").first.focus()  # as by the keyboard
    assert lit(page) == {"a", "b"}
    page.locator("mark").last.hover()
    page.locator("mark").last.focus()
    assert lit(page) == {"a"}
    expect(page.locator("mark").first).to_have_attribute("title", "Beta 25%, Alpha 50%")


def test_stop(page: Page, script: Script) -> None:
    script.events = [chunk("Some ", used={"a": 0.5}), *([0.1, chunk("more ")] * 80)]
    ask(page, "How long?", wait=False)
    expect(page.locator("#answer")).to_contain_text("Some more")
    expect(page.locator("#send")).to_be_disabled()
    page.click("#stop")
    expect(page.locator("#state")).to_have_text("Stopped.")
    assert script.gone.wait(5)  # the server knows it
    text = page.locator("#answer").inner_text()
    page.wait_for_timeout(300)
    assert page.locator("#answer").inner_text() == text
    expect(page.locator("#ask-error")).to_be_hidden()
    expect(page.locator("#history")).to_contain_text("stopped")
    script.events = [chunk("Short."), usage(1, 1, 1)]
    ask(page, "And now?")
    expect(page.locator("#answer")).to_have_text("Short.")
    page.click("#history >> text=How long?")
    expect(page.locator("#answer")).to_have_text(text)


def test_a_refusal_is_one_line(page: Page, script: Script) -> None:
    for refusal, line in (
        ((400, "the context does not fit: 9,000 tokens", {}), "the context does not fit: 9,000 tokens"),
        ((429, "the queue is full: try again in 3 s", {"Retry-After": "3"}), "the queue is full: try again in 3 s"),
        ((503, "", {"Retry-After": "3"}), "The server answered 503 Service Unavailable; try again in 3 s"),
        ((500, "", {}), "The server answered 500 Internal Server Error"),
    ):
        script.refusal = refusal
        ask(page, "What?")
        expect(page.locator("#ask-error")).to_have_text(line)
        expect(page.locator("#state")).to_have_text("No answer.")
    script.refusal, script.events = None, [chunk("Fine."), usage(1, 1, 1)]
    ask(page, "What?")
    expect(page.locator("#ask-error")).to_be_hidden()
    expect(page.locator("#history li")).to_have_count(1)


def test_an_answer_that_breaks_off_keeps_what_came(page: Page, script: Script) -> None:
    cut: list[tuple[Any, str]] = [({"error": {"message": "the answer took too long"}}, "the answer took too long"), ("cut", "The answer broke off: the server closed the connection.")]
    for event, line in cut:
        script.events = [chunk("Half an "), event]
        ask(page, "What?")
        expect(page.locator("#ask-error")).to_have_text(line)
        expect(page.locator("#answer")).to_have_text("Half an ")
        expect(page.locator("#state")).to_have_text("Broken off.")


def test_a_server_that_is_gone_and_a_graph_that_is_refused(page: Page) -> None:
    upload(page, "many.jsonl", "\n".join(json.dumps({"id": f"x{i}", "text": "x"}) for i in range(501)))
    expect(page.locator("#graph-error")).to_have_text("too many documents: expected at most 500")
    expect(page.locator(".node")).to_have_count(0)
    page.click("text=Remove all")
    expect(page.locator("#graph-error")).to_be_hidden()
    page.route("**/v1/**", lambda route: route.abort())
    ask(page, "What?")
    expect(page.locator("#ask-error")).to_have_text("The server cannot be reached. Is it still running?")


def test_the_key_is_asked_for_and_kept_in_the_tab(page: Page, script: Script) -> None:
    expect(page.locator("#key-form")).to_be_hidden()
    script.locked = True
    script.events = [chunk("Open."), usage(1, 1, 1)]
    ask(page, "May I?")
    expect(page.get_by_label("API key")).to_be_focused()
    expect(page.locator("#ask-error")).to_be_hidden()
    page.keyboard.type("wrong")
    page.keyboard.press("Enter")
    expect(page.locator("#key-note")).to_have_text("The server refused this key.")
    page.get_by_label("API key").fill(KEY)
    page.keyboard.press("Enter")
    expect(page.locator("#answer")).to_have_text("Open.")  # the question was asked again by itself
    expect(page.locator("#key-form")).to_be_hidden()
    expect(page.locator(".node")).to_have_count(2)
    assert page.evaluate("[sessionStorage.length, localStorage.length]") == [1, 0]
    page.reload()
    expect(page.locator("#model")).to_have_text("scripted")
    expect(page.get_by_role("button", name="Change API key")).to_be_visible()
    page.evaluate("sessionStorage.clear()")
    page.reload()
    expect(page.get_by_label("API key")).to_be_focused()  # asked for at once
