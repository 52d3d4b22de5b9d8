"""A browser, and the page in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from page_helpers import ARGUMENTS, CHROMIUM, Open, Script, running, scripted_app, upload
from playwright.sync_api import Browser, Page, expect, sync_playwright


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for all tests of a file; while it runs, no test may start an event loop of its own. (In a folder without `__init__.py` a scope of "package" lasts to the end of the run.)"""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    """Opens the page at an address, in a fresh session; at the end nothing may have gone wrong in its code."""
    failures: list[str] = []
    contexts = []

    def listen(kind: str, text: str) -> None:
        if kind == "error" and not text.startswith("Failed to load resource"):  # that a request was refused is no failure of the page
            failures.append(text)

    def opened(address: str, **options: Any) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 860}, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(8000)
        page.on("console", lambda message: listen(message.type, message.text))
        page.on("pageerror", lambda error: failures.append(str(error)))
        page.goto(address)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not failures


@pytest.fixture(scope="module")
def scripted() -> Iterator[tuple[str, Script]]:
    """A server that follows a script."""
    script = Script()
    with running(scripted_app(script)) as address:
        yield address, script


@pytest.fixture
def script(scripted: tuple[str, Script]) -> Script:
    """Its script, empty."""
    scripted[1].reset()
    return scripted[1]


@pytest.fixture
def page(scripted: tuple[str, Script], script: Script, open_page: Open) -> Page:
    """The page before a server that follows `script`, with two documents: b reads a."""
    page = open_page(scripted[0])
    upload(page, "two.json", [{"id": "a", "title": "Alpha", "text": "One."}, {"id": "b", "title": "Beta", "text": "Two.", "sources": ["a"]}])
    expect(page.locator(".node")).to_have_count(2)
    return page
