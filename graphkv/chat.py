"""Chat messages → the token ids before the documents and behind them, by the tokenizer's own chat template.

The documents stand between the two, as segments of their own. So what is said in a conversation changes no segment's KV, and a
conversation of one question is exactly the prompt of :meth:`graphkv.GraphKV.ask`.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graphkv.engine import GraphKV
from graphkv.errors import InputError, one_of
from graphkv.prompt import INSTRUCTION, Piece, rendered_chat, tokenize_pieces
from graphkv.tokens import TokenReader

Message = tuple[str, str]
"""(role, text); the roles are ``system``, ``user`` and ``assistant``."""

ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class ChatPrompt:
    """Token ids `prefix` before the documents and `question` behind them."""

    prefix: tuple[int, ...]
    question: tuple[int, ...]


def chat_prompt(engine: GraphKV, messages: Sequence[Message], *, documents: bool) -> ChatPrompt:
    """The prompt of a conversation that ends with a user's message.

    With documents they stand where the template has a place for them, else in the first user's message. What people wrote is never read as a
    special token. Where the model's chat template has no system role, the system's text opens the first user's message; where it leaves out
    something that was said (some show the last message only), the conversation is written by the engine's own template instead, once a question.

    Args:
        documents: whether documents are read; without any there is no word of them in the prompt, and all of it is `question`.

    Raises:
        InputError: no messages, an unknown role, empty text, a system message behind others, or turns that do not alternate.

    Example:
        >>> prompt = chat_prompt(engine, [("system", "Be brief."), ("user", "Who wrote Night Maple?")], documents=True)  # doctest: +SKIP
        >>> engine.ask(graph, prompt.question, prefix=prompt.prefix)  # doctest: +SKIP
    """
    system, turns = _checked(messages)
    reader, template = engine.reader, engine.template
    if documents and not system and len(turns) == 1:
        return ChatPrompt(reader.ids(template.prefix), reader.question(turns[0]))
    filled = _by_chat_template(engine, system, turns, documents) if template.origin in ("documents", "messages") else None
    before, behind = filled or _by_plain_template(engine, system, turns)
    if not documents:
        return ChatPrompt((), _ids(reader, [*before, *behind]))
    return ChatPrompt(_ids(reader, before), _ids(reader, behind))


def _ids(reader: TokenReader, pieces: Sequence[Piece]) -> tuple[int, ...]:
    return reader.ids(tokenize_pieces(reader.model.tokenizer, pieces))


def _checked(messages: Sequence[Message]) -> tuple[str, list[str]]:
    """The system's text, and what user and assistant said in turns, the user first and last."""
    if not messages:
        raise InputError("expected at least one message, the last one from the user")
    system, turns = [], list[str]()
    for number, (role, text) in enumerate(messages):
        if role not in ROLES:
            raise InputError(f"message {number}: {one_of('role', role, ROLES)}")
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"message {number} ({role}) is empty: expected some text")
        if role == "system":
            if turns:
                raise InputError(f"message {number} is a system message behind others: system messages come first")
            system.append(text)
            continue
        wanted = "assistant" if len(turns) % 2 else "user"
        if role != wanted:
            raise InputError(f"message {number} is from the {role}, expected one from the {wanted}: user and assistant speak in turns, the user first")
        turns.append(text)
    if len(turns) % 2 == 0:
        raise InputError("expected the last message to be the user's: it is what is answered")
    return "\n\n".join(system), turns


def _by_plain_template(engine: GraphKV, system: str, turns: Sequence[str]) -> tuple[list[Piece], list[Piece]]:
    """The engine's template, once a question."""
    template = engine.template
    before: list[Piece] = [(template.prefix, False), *([(system, True), ("\n\n", False)] if system else [])]
    behind: list[Piece] = []
    for question, answer in zip(turns[0:-1:2], turns[1::2], strict=True):
        behind += [*template.question_pieces(question), (" ", False), (answer.strip(), True), ("\n\n", False)]
    return [piece for piece in before if piece[0]], [*behind, *template.question_pieces(turns[-1])]


def _by_chat_template(engine: GraphKV, system: str, turns: Sequence[str], documents: bool) -> tuple[list[Piece], list[Piece]] | None:
    """The chat template is filled with marks in place of what people wrote, and cut at the marks. None if one of them does not come out, or twice."""
    mark = _mark()
    place = f"{mark}D."  # where the documents stand
    own = documents and engine.template.origin == "documents"  # the template has a place for documents
    contents = [f"{mark}{number}." for number in range(len(turns))]
    written: dict[str, str] = dict(zip(contents, turns, strict=True))
    if documents and not own:
        contents[0] = f"{INSTRUCTION}\n\n{place}\nQuestion: {contents[0]}"
    said = [{"role": "assistant" if number % 2 else "user", "content": content} for number, content in enumerate(contents)]
    shown = [{"title": f"{mark}T{number}.", "text": f"{mark}X{number}."} for number in range(3)] if own else None
    tries = [said]
    if system:
        written[f"{mark}S."] = system
        merged = [{"role": "user", "content": f"{mark}S.\n\n{contents[0]}"}, *said[1:]]
        tries = [[{"role": "system", "content": f"{mark}S."}, *said], merged]
    for messages in tries:
        text = rendered_chat(engine.model.tokenizer, messages, shown)
        if text is None and shown is None:  # it wants documents, and can do with an empty list of them
            text = rendered_chat(engine.model.tokenizer, messages, [])
        if text is not None and shown is not None:
            text = _without_documents(engine, text, shown, place)
        if text is not None and all(text.count(m) == 1 for m in (*written, *([place] if documents else []))):
            before, _, behind = text.partition(place) if documents else ("", "", text)
            return _pieces(before, written), _pieces(behind, written)
    return None


def _mark() -> str:
    """The beginning of every mark: a word that nobody can have written."""
    return f"GKV{secrets.token_hex(12)}"


def _without_documents(engine: GraphKV, text: str, shown: Sequence[Mapping[str, Any]], place: str) -> str | None:
    """The rendered text with one mark in place of three documents; None if they do not stand together."""
    together = "".join(piece for row in shown for piece, _ in engine.template.pieces(row["title"], row["text"]))
    return text.replace(together, place) if text.count(together) == 1 else None


def _pieces(text: str, written: Mapping[str, str]) -> list[Piece]:
    """`text` cut at the marks, with what people wrote in their place."""
    pieces: list[Piece] = [(text, False)]
    for mark, content in written.items():
        cut: list[Piece] = []
        for part, is_users in pieces:
            before, found, behind = ("", "", "") if is_users else part.partition(mark)
            cut += [(before, False), (content, True), (behind, False)] if found else [(part, is_users)]
        pieces = cut
    return [piece for piece in pieces if piece[0]]
