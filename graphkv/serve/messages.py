"""A request's messages → who said what, and the documents that stood among it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from graphkv.chat import Message
from graphkv.serve.document_forms import Given, block_text, read_given
from graphkv.serve.errors import ApiError
from graphkv.serve.schema import ChatMessage


def read_messages(messages: Sequence[ChatMessage], most: int) -> tuple[list[Message], list[Given]]:
    """The conversation, as :func:`graphkv.chat.chat_prompt` takes it, and the documents of its users.

    Text blocks of one message are joined by line breaks; a developer is a system.

    Args:
        most: messages that one conversation may have.

    Raises:
        ApiError: 400, too many messages, or content that is not text: images, sound, files, calls of tools.

    Example:
        >>> read_messages([ChatMessage(role="user", content=[{"type": "text", "text": "Who?"}])], 10)
        ([('user', 'Who?')], [])
    """
    if len(messages) > most:
        raise ApiError(400, f"{len(messages):,} messages: at most {most:,} are read at once", param="messages")
    said: list[Message] = []
    documents: list[Given] = []
    for i, message in enumerate(messages):
        place = f"messages[{i}]"
        if (message.model_extra or {}).get("tool_calls") or (message.model_extra or {}).get("function_call"):
            raise ApiError(400, f"{place}.tool_calls: tools are not supported", param=f"{place}.tool_calls")
        text, blocks = _content(message, f"{place}.content")
        if not text.strip():
            raise ApiError(400, f"{place}.content: the {message.role}'s message is empty: expected some text", param=f"{place}.content")
        documents += blocks
        said.append(("system" if message.role == "developer" else message.role, text))
    return said, documents


def _content(message: ChatMessage, place: str) -> tuple[str, list[Given]]:
    """The text of a message, and its documents."""
    if isinstance(message.content, str):
        return message.content, []
    if not isinstance(message.content, list):
        raise ApiError(400, f"{place}: expected text, or a list of blocks", param=place)
    texts, documents = [], []
    for i, block in enumerate(message.content):
        where = f"{place}[{i}]"
        if isinstance(block, Mapping) and block.get("type") == "document":
            if message.role != "user":
                raise ApiError(400, f"{where}: documents stand in the user's messages, this one is from the {message.role}", param=where)
            documents.append(read_given(block, where))
        else:
            texts.append(block_text(block, where))
    return "\n".join(texts), documents
