"""What the server answers, as pydantic models: OpenAI's objects with ours in them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel


class Reuse(BaseModel):
    """Ours: where the KV of the prompt's tokens came from. `exact`: the very same context, assembled before; `composed`: block by block from the store."""

    exact: int
    composed: int
    computed: int


class PromptTokens(BaseModel):
    """Of OpenAI's: `cached_tokens` are those whose KV was there already."""

    cached_tokens: int


class Usage(BaseModel):
    """Tokens of a request."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokens
    graphkv: Reuse


class CitedDocument(BaseModel):
    """A document as far as it is shown in a citation."""

    id: str
    title: str | None = None
    text: str


class CitationSource(BaseModel):
    """Of Cohere's, and `score`: the share of all the model's attention that went to this one while it wrote a word of it, 0 to 1."""

    type: Literal["document"] = "document"
    id: str
    score: float
    document: CitedDocument


class CitationReply(BaseModel):
    """Of Cohere's: characters `start` to `end` of the answer, and the documents that the model looked at while it wrote them, best first."""

    start: int
    end: int
    text: str
    sources: list[CitationSource]
    type: Literal["TEXT_CONTENT"] = "TEXT_CONTENT"


class Message(BaseModel):
    """The answer."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None
    citations: list[CitationReply] | None = None


class Choice(BaseModel):
    """The one answer."""

    index: int = 0
    message: Message
    logprobs: None = None
    finish_reason: Literal["stop", "length"]


class Trace(BaseModel):
    """Ours, with ``graph.trace``. `used`: in a stream the documents that this piece's token looked at, by their share of its attention.

    The others come with the answer: its layout, seconds to the first token and to the last, and for each document whether its KV was there already.
    """

    used: dict[str, float] | None = None
    layout: str | None = None
    time_to_first_token: float | None = None
    seconds: float | None = None
    reused: dict[str, bool] | None = None


class ChatCompletion(BaseModel):
    """The reply of ``POST /v1/chat/completions``; a stream sends :class:`ChatCompletionChunk` objects instead."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    graphkv: Trace | None = None


class Delta(BaseModel):
    """What a chunk adds to the message."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    citations: list[CitationReply] | None = None


class ChunkChoice(BaseModel):
    """The one answer, as it grows."""

    index: int = 0
    delta: Delta
    logprobs: None = None
    finish_reason: Literal["stop", "length"] | None = None


class ChatCompletionChunk(BaseModel):
    """One event of a stream. With ``include_usage`` the last one has no choices, but the usage."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | None = None
    graphkv: Trace | None = None


class ScoreReply(BaseModel):
    """One continuation: the natural logarithm of its probability, summed over its tokens; whether greedy decoding would write exactly it."""

    index: int
    log_likelihood: float
    tokens: int
    is_greedy: bool


class ScoreList(BaseModel):
    """The reply of ``POST /v1/score``, in the order of the continuations."""

    object: Literal["list"] = "list"
    model: str
    data: list[ScoreReply]


class ModelReply(BaseModel):
    """A model; `max_model_len` is its window in tokens."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["graphkv"] = "graphkv"
    max_model_len: int


class ModelList(BaseModel):
    """The reply of ``GET /v1/models``."""

    object: Literal["list"] = "list"
    data: list[ModelReply]


class DocumentSummary(BaseModel):
    """A document of the library, without its text. `characters` are those of title and text."""

    id: str
    object: Literal["document"] = "document"
    title: str | None = None
    characters: int
    created_at: int


class DocumentReply(DocumentSummary):
    """A document of the library."""

    text: str
    sources: list[Any]
    score: float | None = None
    metadata: dict[str, Any]


class DocumentPage(BaseModel):
    """One page of the library, by id; ``after=last_id`` gives the next one."""

    object: Literal["list"] = "list"
    data: list[DocumentSummary]
    has_more: bool
    last_id: str | None = None


class Encoded(BaseModel):
    """What encoding ahead found in the store, and what it computed."""

    tokens_reused: int
    tokens_computed: int


class PutReply(BaseModel):
    """The documents that have been kept."""

    object: Literal["list"] = "list"
    data: list[DocumentSummary]
    encoded: Encoded | None = None


class DeleteReply(BaseModel):
    """A document is gone; `deleted` is false if it was not there before."""

    id: str
    object: Literal["document"] = "document"
    deleted: bool = True


class DeleteList(BaseModel):
    """Several documents are gone."""

    object: Literal["list"] = "list"
    data: list[DeleteReply]


class Node(BaseModel):
    """A document in the drawing; `x` and `y` are the middle of its circle in pixels, `angle` turns the label (degrees) where the nodes stand around a circle."""

    id: str
    title: str | None
    label: str
    text: str
    tokens: int
    x: float
    y: float
    angle: float | None
    colour: str


class DrawnEdge(BaseModel):
    """An arrow: the target reads the source."""

    source: str
    target: str
    kind: str | None
    colour: str


class Plan(BaseModel):
    """What reading the documents takes: tokens of all blocks (prefix included), blocks of documents, positions that are used up, and the model's window."""

    tokens: int
    blocks: int
    positions: int
    window: int


class GraphReply(BaseModel):
    """The reply of ``POST /v1/graph``. `note` says what of a large graph is not drawn; `colours` what the colours of nodes mean."""

    nodes: list[Node]
    edges: list[DrawnEdge]
    width: float
    height: float
    plan: Plan
    note: str | None
    colours: dict[str, str]
