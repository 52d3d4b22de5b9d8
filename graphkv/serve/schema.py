"""What clients send, as pydantic models: OpenAI's fields, and ours beside them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

MOST_STOPS = 16
MOST_CONTINUATIONS = 256
MOST_FIELDS = 256
MOST_MESSAGES = 10_000
MOST_ITEMS = 100_000
"""Documents and edges. The settings have limits of their own, far lower; these hold before anything is looked at."""

# Lists of a type stop at their first error (fail_fast): a million small mistakes would take half a minute to be put into words.

Text = Annotated[str, Field(max_length=10_000_000)]
Name = Annotated[str, Field(min_length=1, max_length=512)]


class Strict(BaseModel):
    """An object that holds what is written here and nothing else; ``"1"`` is no number in it."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _few_fields(cls, value: object) -> object:
        """Before each unknown one becomes an error of its own."""
        if isinstance(value, dict) and len(value) > MOST_FIELDS:
            raise ValueError(f"expected at most {MOST_FIELDS} fields, got {len(value):,}")
        return value


class Open(BaseModel):
    """An object in which clients of OpenAI's API send more than is written here; what would change an answer is refused by refusals.py."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)


_STRING: dict[str, Any] = {"type": "string"}
_STRINGS: dict[str, Any] = {"type": "array", "items": _STRING}
_MAYBE: dict[str, Any] = {"type": ["string", "null"]}
_DOCUMENT: dict[str, Any] = {
    "anyOf": [
        {"type": "string", "minLength": 1, "description": "Bare text, as Cohere takes it."},
        {
            "type": "object",
            "description": "As vLLM and chat templates take it. `sources` (or `cites`) are ids of the documents that this one reads.",
            "properties": {"id": _STRING, "title": _MAYBE, "text": _STRING, "sources": _STRINGS},
            "required": ["text"],
        },
        {
            "type": "object",
            "description": "As Cohere takes it: `data` is text, or fields; title and text (or snippet) are the document's, the others stand in front of the text.",
            "properties": {"id": _STRING, "data": {"type": ["string", "object"]}, "sources": _STRINGS},
            "required": ["data"],
        },
        {
            "type": "object",
            "description": "As Anthropic takes it; also as a block of a user's message. Sources of type text and content are read.",
            "properties": {"type": {"const": "document"}, "source": {"type": "object"}, "title": _MAYBE, "context": _MAYBE},
            "required": ["source"],
        },
        {"type": "object", "description": "A document of the library, by its id.", "properties": {"id": _STRING}, "required": ["id"], "additionalProperties": False},
    ]
}
_EDGE: dict[str, Any] = {
    "anyOf": [
        {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 2, "description": "[source, target]: the target reads the source."},
        {
            "type": "object",
            "properties": {"source": {"type": "string"}, "target": {"type": "string"}, "kind": {"type": "string"}, "weight": {"type": "number"}},
            "required": ["source", "target"],
            "additionalProperties": False,
        },
    ]
}
_LAYOUT: dict[str, Any] = {
    "anyOf": [
        {"type": "string", "description": "A layout's name: graph, sequential, block, graph_topk ..."},
        {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"], "description": "A name, and the layout's own options beside it."},
        {"type": "null"},
    ]
}
_CONTENT: dict[str, Any] = {
    "anyOf": [
        {"type": "string"},
        {"type": "array", "items": {"type": "object"}, "description": "Blocks {type: text, text} and, from the user, {type: document, source, title, context}."},
    ]
}

# Read by documents.py and messages.py, which can name the place of a mistake; a union of models could only say that none of them fits.
Documents = Annotated[list[Annotated[Any, WithJsonSchema(_DOCUMENT)]], Field(max_length=MOST_ITEMS, description="The documents to read, each in one of four forms.")]
Edges = Annotated[list[Annotated[Any, WithJsonSchema(_EDGE)]], Field(max_length=MOST_ITEMS, description="Further edges between documents, by their ids.")]
LayoutChoice = Annotated[Any, WithJsonSchema(_LAYOUT)]


class GraphField(Strict):
    """How the documents hang together and how they are read: ours, in no other API.

    Attributes:
        edges: (source, target): the target reads the source. documents: ids of documents in the library, read after those in the request.
        layout: a name, or an object with `name` and the layout's options. trace: each piece of a stream says which documents were looked at.
    """

    edges: Edges = []
    documents: Annotated[list[Name], Field(fail_fast=True, max_length=MOST_ITEMS)] = []
    layout: LayoutChoice = None
    trace: bool = False


class ChatMessage(Open):
    """One turn."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[Any, WithJsonSchema(_CONTENT)] = None


class StreamOptions(Open):
    """Of OpenAI's."""

    include_usage: bool | None = None


def _upper(mode: object) -> object:
    return mode.upper() if isinstance(mode, str) else mode


class CitationOptions(Open):
    """Of Cohere's: whether citations are wanted. Every mode but the two that say no says yes."""

    mode: Annotated[Literal["ENABLED", "FAST", "ACCURATE", "DISABLED", "OFF"], BeforeValidator(_upper)] = "ENABLED"

    @property
    def wanted(self) -> bool:
        """Whether citations are sent."""
        return self.mode not in ("DISABLED", "OFF")


class Reading(Strict):
    """What every request says that reads documents."""

    model: Name | None = None
    documents: Documents | None = None
    graph: GraphField | None = None


def _listed(stop: object) -> object:
    return [stop] if isinstance(stop, str) else stop


Stop = Annotated[
    Annotated[list[Annotated[str, Field(min_length=1, max_length=256)]], Field(fail_fast=True, max_length=MOST_STOPS)] | None,
    BeforeValidator(_listed),
    WithJsonSchema({"anyOf": [{"type": "string", "minLength": 1}, {"type": "array", "items": {"type": "string", "minLength": 1}, "maxItems": MOST_STOPS}, {"type": "null"}]}),
]


Messages = Annotated[list[ChatMessage], Field(fail_fast=True, min_length=1, max_length=MOST_MESSAGES)]


class ChatRequest(Reading):
    """``POST /v1/chat/completions``. `temperature` is 0 if it is not given: the same question has the same answer.

    OpenAI's other fields are ignored, unless they would change the answer: see refusals.py.
    """

    model_config = ConfigDict(extra="allow")

    messages: Messages
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1, le=1_000_000)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: Stop = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    citation_options: CitationOptions | None = None


class ScoreRequest(Reading):
    """``POST /v1/score``: how likely each continuation is after the question. Exactly one of `question` and `messages` is given."""

    question: Text | None = None
    messages: Messages | None = None
    continuations: Annotated[list[Annotated[str, Field(min_length=1, max_length=100_000)]], Field(fail_fast=True, min_length=1, max_length=MOST_CONTINUATIONS)]


class GraphRequest(Reading):
    """``POST /v1/graph``: documents that are to be drawn."""


class PutRequest(Strict):
    """``PUT /v1/documents``: documents to keep; `encode` encodes them at once, by `layout`, so that the first question finds them in the store."""

    documents: Annotated[Documents, Field(min_length=1)]
    encode: bool = False
    layout: LayoutChoice = None
