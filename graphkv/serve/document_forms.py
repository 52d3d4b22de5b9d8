"""One document of a request, in the form of whichever API it was written for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from graphkv.errors import DocumentError
from graphkv.segments import Document
from graphkv.serve.errors import ApiError
from graphkv.serve.library import id_problem

EXPECTED = (
    'expected text, {"text": ...} with a title and an id if you like, {"data": ...} as Cohere has it, {"source": {"type": "text", "data": ...}} as Anthropic has it, '
    'or {"id": ...} of a document in the library'
)

_TEXTS = ("text", "snippet")  # the names that Cohere's `data` has for the text itself


@dataclass(frozen=True)
class Given:
    """A document as it was given.

    Attributes:
        place: where in the request it stands, for example ``documents[3]``. id: None if it has none.
        text, title: None for a text that is in the library. more: `sources`, `score` and metadata, as :meth:`graphkv.Document.from_dict` takes them.
    """

    place: str
    id: str | None
    text: str | None = None
    title: str | None = None
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def stored(self) -> bool:
        """Whether only its id was given."""
        return self.text is None

    def document(self, id: str) -> Document:
        """The document under an id. Raises ApiError (400) for sources, a score or edges that are malformed."""
        try:
            return Document.from_dict({**self.more, "id": id, "text": self.text, "title": self.title}, where=self.place)
        except DocumentError as error:
            raise ApiError(400, str(error), param=self.place) from None


def read_given(value: object, place: str) -> Given:
    """A document in one of the forms.

    Raises:
        ApiError: 400, it has none of them; the message and `param` name the place.

    Example:
        >>> read_given({"id": "a", "data": {"title": "Weather", "snippet": "It rains."}}, "documents[0]").text
        'It rains.'
    """
    if isinstance(value, str):
        return Given(place, None, _text(value, place))
    if not isinstance(value, Mapping):
        raise _refused(place, f"{EXPECTED}; got {_name(value)}")
    id = _id(value, place)
    if "data" in value and "text" not in value:
        return _cohere(value, id, place)
    if isinstance(value.get("source"), Mapping) and "text" not in value:
        return _anthropic(value, id, place)
    if "text" in value:
        text = _text(value["text"], f"{place}.text")
        more = {name: part for name, part in value.items() if name not in ("id", "doc_id", "text", "title", "type")}
        return Given(place, id, text, _title(value, place), more)
    if id is not None and set(value) <= {"id", "doc_id", "type"}:
        return Given(place, id)
    raise _refused(place, f"{EXPECTED}; got the keys {', '.join(map(repr, list(value)[:8])) or 'of an empty object'}")


def _cohere(value: Mapping[str, Any], id: str | None, place: str) -> Given:
    """``{"id", "data"}``: data is text, or an object of fields; the model reads all of them, as it does at Cohere."""
    data = value["data"]
    edges = {name: value[name] for name in ("sources", "cites", "score") if name in value}
    if isinstance(data, str):
        return Given(place, id, _text(data, f"{place}.data"), None, edges)
    if not isinstance(data, Mapping):
        raise _refused(f"{place}.data", f"expected text, or an object with the fields title and text, got {_name(data)}")
    edges |= {name: data[name] for name in ("sources", "cites") if isinstance(data.get(name), list) and name not in edges}
    main = next((name for name in _TEXTS if name in data), None)
    excludes = data.get("_excludes")
    hidden = excludes if isinstance(excludes, list) else []
    lines = []
    for name, part in data.items():
        if name in (main, "title") or name in edges or name.startswith("_") or name in hidden or part is None or part == "":
            continue
        if isinstance(part, Mapping | list):
            raise _refused(f"{place}.data.{name}", f"expected text or a number, got {_name(part)}")
        lines.append(f"{name}: {part}")
    if main is not None:
        lines.append(_text(data[main], f"{place}.data.{main}"))
    return Given(place, id, _text("\n".join(lines), f"{place}.data"), _title(data, f"{place}.data"), edges)


def _anthropic(value: Mapping[str, Any], id: str | None, place: str) -> Given:
    """``{"type": "document", "source", "title", "context"}``; what is said in `context` the model reads in front of the text."""
    source, where = value["source"], f"{place}.source"
    match source.get("type"):
        case "text":
            if source.get("media_type", "text/plain") != "text/plain":
                raise _refused(f"{where}.media_type", f"expected 'text/plain', got {_quote(source['media_type'])}")
            text = _text(source.get("data"), f"{where}.data")
        case "content":
            content = source.get("content")
            text = "\n".join(block_text(block, f"{where}.content[{i}]") for i, block in enumerate(content)) if isinstance(content, list) else content
            text = _text(text, f"{where}.content")
        case other:
            raise _refused(f"{where}.type", f"expected 'text' or 'content', got {_quote(other)}: only text is read; take it out of the file first")
    context = value.get("context")
    if context is not None and not isinstance(context, str):
        raise _refused(f"{place}.context", f"expected text, got {_name(context)}")
    edges = {name: value[name] for name in ("sources", "cites", "score") if name in value}
    return Given(place, id, f"{context}\n{text}" if context and context.strip() else text, _title(value, place), edges)


def block_text(block: object, place: str) -> str:
    """The text of a block ``{"type": "text", "text": ...}``. Raises ApiError (400) for any other."""
    if not isinstance(block, Mapping) or block.get("type") != "text":
        kind = _quote(block.get("type")) if isinstance(block, Mapping) else _name(block)
        raise _refused(place, f'expected {{"type": "text", "text": ...}}, got {kind}: only text is read')
    if not isinstance(block.get("text"), str):
        raise _refused(f"{place}.text", f"expected text, got {_name(block.get('text'))}")
    return str(block["text"])


def _id(value: Mapping[str, Any], place: str) -> str | None:
    name = "id" if value.get("id") is not None else "doc_id"  # as the templates of some models call it
    id = value.get(name)
    if id is None:
        return None
    if isinstance(id, int) and not isinstance(id, bool):
        id = str(id)
    if problem := id_problem(id):
        raise _refused(f"{place}.{name}", problem)
    return str(id)


def _title(value: Mapping[str, Any], place: str) -> str | None:
    title = value.get("title")
    if title is not None and not isinstance(title, str):
        raise _refused(f"{place}.title", f"expected text, got {_name(title)}")
    return title if title and title.strip() else None


def _text(value: object, place: str) -> str:
    if not isinstance(value, str):
        raise _refused(place, f"expected text, got {_name(value)}")
    if not value.strip():
        raise _refused(place, "the text is empty: leave the document out or give it one")
    return value


def _refused(place: str, message: str) -> ApiError:
    return ApiError(400, f"{place}: {message}", param=place)


def _name(value: object) -> str:
    """What JSON calls a value."""
    names = {type(None): "null", bool: "a truth value", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}
    return names.get(type(value), type(value).__name__)


def _quote(value: object) -> str:
    return repr(value)[:60]
