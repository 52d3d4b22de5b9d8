"""Prompt assembly: which text stands before, around and behind the segments, taken from the tokenizer's chat template.

Every piece is tokenised by itself and the ids are spliced; nothing is decoded and tokenised again.
"""

from __future__ import annotations

import copy
import threading
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError

from graphkv.errors import InputError
from graphkv.segments import Segment

INSTRUCTION = "Answer the question from the documents below. Some of them may have nothing to do with it."
"""Put before the documents where the chat template has no place for documents of its own."""

Piece = tuple[str, bool]
"""A stretch of prompt, and whether the user wrote it."""

_TITLES, _TEXTS, _QUESTION, _DOCUMENTS = ("GKVTITLE0", "GKVTITLE1", "GKVTITLE2"), ("GKVTEXT0", "GKVTEXT1", "GKVTEXT2"), "GKVQUESTION", "GKVDOCUMENTS"


@dataclass(frozen=True)
class PromptTemplate:
    """The text around segments and question.

    Attributes:
        prefix: before the first segment (instruction, opening of the turn, BOS). May be empty.
        document: a titled document; ``{title}`` and ``{text}`` are put in.
        untitled: a document without a title; ``{text}`` is put in.
        question: everything after the last segment; ``{question}`` is put in.
        origin: where it comes from: ``documents`` (a chat template that takes documents), ``messages`` (one that does
            not: the documents stand in the user's turn), ``plain`` (no chat template), ``custom``.

    Raises:
        InputError: a placeholder is missing.

    Example:
        >>> template = PromptTemplate("", "{title}: {text}\\n", "{text}\\n", "Q: {question}\\nA:")
        >>> template.render(Segment.from_text("a", "It rains.", title="Weather"))
        'Weather: It rains.\\n'
    """

    prefix: str
    document: str
    untitled: str
    question: str
    origin: str = "custom"

    def __post_init__(self) -> None:
        for name, text, needed in (
            ("document", self.document, ("{title}", "{text}")),
            ("untitled", self.untitled, ("{text}",)),
            ("question", self.question, ("{question}",)),
        ):
            for placeholder in needed:
                if text.count(placeholder) != 1:
                    raise InputError(f"the prompt template's {name!r} must hold {placeholder} once, got {text!r}")

    def pieces(self, title: str | None, text: str) -> list[Piece]:
        """A document as the model reads it, in pieces that say which of them the user wrote."""
        template, fields = (self.document, {"title": title, "text": text}) if title else (self.untitled, {"text": text})
        return _fill(template, fields)

    def question_pieces(self, question: str) -> list[Piece]:
        """Everything after the last segment, in pieces."""
        return _fill(self.question, {"question": question})

    def render(self, segment: Segment) -> str:
        """The text of a segment as the model reads it."""
        return "".join(text for text, _ in self.pieces(segment.title, segment.text or ""))

    def ask(self, question: str) -> str:
        """Everything after the last segment, as text."""
        return "".join(text for text, _ in self.question_pieces(question))


def _fill(template: str, fields: Mapping[str, str]) -> list[Piece]:
    """Put the fields in, once each; what looks like a placeholder inside a field stays as it is."""
    pieces: list[Piece] = [(template, False)]
    for name, value in fields.items():
        split: list[Piece] = []
        for text, is_users in pieces:
            before, mark, after = ("", "", "") if is_users else text.partition("{" + name + "}")
            split += [(before, False), (value, True), (after, False)] if mark else [(text, is_users)]
        pieces = split
    return [piece for piece in pieces if piece[0]]


_PLAIN_COPIES: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()
_COPYING = threading.Lock()


def template_of(tokenizer: Any) -> PromptTemplate:
    """The template of a tokenizer: its chat template with ``documents``, else one with documents in the user's turn, else a plain one.

    Many chat templates silently ignore ``documents``; that is found out by rendering marked documents and looking.
    """
    if not getattr(tokenizer, "chat_template", None):
        bos = getattr(tokenizer, "bos_token", None) if _adds_bos(tokenizer) else None
        return PromptTemplate(bos or "", "Title: {title}\n{text}\n\n", "{text}\n\n", "Question: {question}\nAnswer:", "plain")
    return _from_documents(tokenizer) or _from_messages(tokenizer)


def tokenize(tokenizer: Any, text: str, *, plain: bool = False) -> tuple[int, ...]:
    """Token ids of `text`, nothing added; with `plain`, special tokens in it are read as the letters they are written with.

    Raises:
        InputError: there is no tokenizer, or the text has a lone surrogate, which no encoding has.
    """
    if tokenizer is None:
        raise InputError("this engine has no tokenizer: give token ids instead of text, or pass a (model, tokenizer) pair with one")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"the text cannot be encoded: {error.object[error.start]!r} at character {error.start} is half of a character; remove it") from None
    if not text:
        return ()
    if plain:
        tokenizer = _plain(tokenizer)
    return tuple(tokenizer(text, add_special_tokens=False, split_special_tokens=plain)["input_ids"])


def _plain(tokenizer: Any) -> Any:
    """A copy that reads special tokens as letters: a tokenizer that is told so for one text remembers it, and another thread's text would be read so too."""
    with _COPYING:
        copied = _PLAIN_COPIES.get(tokenizer)
        if copied is None or len(copied) != len(tokenizer):  # tokens have been added since
            copied = copy.deepcopy(tokenizer)
            copied("a", split_special_tokens=True)  # told now, so that two threads do not tell it at once
            _PLAIN_COPIES[tokenizer] = copied
    return copied


def tokenize_pieces(tokenizer: Any, pieces: Sequence[Piece]) -> tuple[int, ...]:
    """Token ids of template and user text together.

    They are one text for the tokenizer, unless the user's part spells a special token: then it is tokenised apart, so that
    a document which contains ``</s>`` or ``<|im_end|>`` cannot end the turn.
    """
    specials = getattr(tokenizer, "all_special_tokens", ())
    if any(is_users and any(special in text for special in specials) for text, is_users in pieces):
        return tuple(t for text, is_users in pieces for t in tokenize(tokenizer, text, plain=is_users))
    return tokenize(tokenizer, "".join(text for text, _ in pieces))


def _adds_bos(tokenizer: Any) -> bool:
    bos = getattr(tokenizer, "bos_token_id", None)
    return bos is not None and list(tokenizer("a")["input_ids"])[:1] == [bos]


def rendered_chat(tokenizer: Any, messages: Sequence[Mapping[str, str]], documents: Sequence[Mapping[str, str]] | None = None) -> str | None:
    """The chat template's text for a conversation, ready for an answer; None if the template cannot do with these messages or documents."""
    kwargs: dict[str, Any] = {} if documents is None else {"documents": list(documents)}
    try:
        text: str = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True, **kwargs)
    except (TemplateError, TypeError):  # it wants documents, wants them of another shape, or does sums with what is not there
        return None
    return text


def _render(tokenizer: Any, content: str, documents: Sequence[Mapping[str, str]] | None) -> str | None:
    return rendered_chat(tokenizer, [{"role": "user", "content": content}], documents)


def _from_documents(tokenizer: Any) -> PromptTemplate | None:
    """Read off how the template wraps documents; None if it ignores them or numbers them, so that no wrapper serves all."""
    specials = getattr(tokenizer, "all_special_tokens", ())
    try:
        titled = _wrapper(_render(tokenizer, _QUESTION, [{"title": t, "text": x} for t, x in zip(_TITLES, _TEXTS, strict=True)]), _TITLES, _TEXTS, specials)
        plain = _wrapper(_render(tokenizer, _QUESTION, [{"text": x} for x in _TEXTS]), None, _TEXTS, specials)
    except TemplateError:  # it wants documents of another shape than {title, text}
        return None
    if titled is None:
        return None
    prefix, document, question = titled
    # A template that cannot do without titles still gets the text in: with an empty one.
    untitled = plain[1] if plain is not None and plain[0] == prefix else document.replace("{title}", "")
    return PromptTemplate(prefix, document, untitled, question, "documents")


def _wrapper(rendered: str | None, titles: Sequence[str] | None, texts: Sequence[str], specials: Sequence[str]) -> tuple[str, str, str] | None:
    """(prefix, document, question) of a prompt with three marked documents, or None if it cannot be taken apart."""
    marks = [m for pair in zip(titles, texts, strict=True) for m in pair] if titles else list(texts)
    marks.append(_QUESTION)
    if rendered is None or any(rendered.count(m) != 1 for m in marks):
        return None
    places = [rendered.index(m) for m in marks]
    if places != sorted(places):
        return None  # text before title, or the question in front of the documents
    parts = []
    for mark in marks:
        before, rendered = rendered.split(mark, 1)
        parts.append(before)
    step = 2 if titles else 1
    head, gaps, tail = parts[0], [parts[step], parts[2 * step]], parts[3 * step]
    inner = [parts[i * step + 1] for i in range(3)] if titles else [""]
    if gaps[0] != gaps[1] or len(set(inner)) != 1:
        return None
    opening = _common_suffix(head, gaps[0])
    # Head and ending may end alike: a special token of the head is not to be torn ("<s>" before "<doc>", where documents end with "</doc>").
    while opening and any(_tears(special, head, len(head) - len(opening)) for special in specials):
        opening = opening[1:]
    closing = gaps[0][: len(gaps[0]) - len(opening)]
    if not tail.startswith(closing):
        closing = ""  # a separator between documents, not an ending of each: it opens every document but the first
        opening = gaps[0]
        if not head.endswith(opening):
            return None
    document = opening + ("{title}" + inner[0] if titles else "") + "{text}" + closing
    return head[: len(head) - len(opening)], document, tail[len(closing) :] + "{question}" + rendered


def _tears(special: str, text: str, place: int) -> bool:
    """Whether `special` stands in `text` on both sides of `place`."""
    return special in text[max(0, place - len(special) + 1) : place + len(special) - 1]


def _common_suffix(a: str, b: str) -> str:
    n = 0
    while n < min(len(a), len(b)) and a[-1 - n] == b[-1 - n]:
        n += 1
    return a[len(a) - n :]


def _from_messages(tokenizer: Any) -> PromptTemplate:
    content = f"{INSTRUCTION}\n\n{_DOCUMENTS}\nQuestion: {_QUESTION}"
    rendered = _render(tokenizer, content, None) or _render(tokenizer, content, [])
    if rendered is None or rendered.count(_DOCUMENTS) != 1 or rendered.count(_QUESTION) != 1:
        raise InputError("the tokenizer's chat template does not show the user's message: pass template=PromptTemplate(...)")
    prefix, rest = rendered.split(_DOCUMENTS)
    return PromptTemplate(prefix, "- Title: {title}\n{text}\n", "- {text}\n", rest.replace(_QUESTION, "{question}"), "messages")
