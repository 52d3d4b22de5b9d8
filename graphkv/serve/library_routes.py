"""``/v1/documents``: put, list, look at and delete documents that questions name by their ids, and encode them ahead."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Body, Query, Request
from pydantic import BeforeValidator

from graphkv.graph import SegmentGraph
from graphkv.segments import Document
from graphkv.serve.documents import Shelf, check_size, read_documents, with_sources
from graphkv.serve.errors import ApiError, responses
from graphkv.serve.keys import Scope
from graphkv.serve.layout_choice import check_reads, read_choice
from graphkv.serve.library import LONGEST_ID, Stored, id_problem
from graphkv.serve.replies import DeleteList, DeleteReply, DocumentPage, DocumentReply, DocumentSummary, Encoded, PutReply
from graphkv.serve.schema import PutRequest
from graphkv.serve.state import State, state_of
from graphkv.serve.waiting import Held, result_of, while_connected

router = APIRouter(tags=["documents"])
T = TypeVar("T")


def _one_or_many(body: object) -> object:
    """A single document as a list of one; `encode` and `layout` may stand beside its fields."""
    if not isinstance(body, Mapping) or "documents" in body:
        return body
    beside = {name: body[name] for name in ("encode", "layout") if name in body}
    return {"documents": [{name: part for name, part in body.items() if name not in beside}], **beside}


@router.put("/v1/documents", response_model=PutReply, response_model_exclude_none=True, responses=responses(400, 401, 429, 503, 504))
@router.post("/v1/documents", response_model=PutReply, response_model_exclude_none=True, responses=responses(400, 401, 429, 503, 504))
async def put_documents(body: Annotated[PutRequest, BeforeValidator(_one_or_many)], request: Request, scope: Scope) -> PutReply:
    """Keep documents, all of them or none, until they are deleted; one whose id is there already is replaced.

    The body is ``{"documents": [...]}`` or one document. With ``encode: true`` they are encoded before the answer comes, each by itself and along
    its edges to sources in the library. Every document needs an id.
    """
    return await _put(body.documents, None, body.encode, body.layout, request, scope)


@router.get("/v1/documents", response_model=DocumentPage, responses=responses(400, 401, 503))
async def list_documents(
    request: Request, scope: Scope, limit: Annotated[int, Query(ge=1, le=1000)] = 100, after: Annotated[str, Query(max_length=LONGEST_ID)] = ""
) -> DocumentPage:
    """The documents in the order of their ids, a page at a time, without their texts."""
    state = state_of(request)
    rows, more = await _working(request, lambda: state.library.page(scope, limit=limit, after=after))
    data = [DocumentSummary(id=row.id, title=row.title, characters=row.characters, created_at=row.created) for row in rows]
    return DocumentPage(data=data, has_more=more, last_id=data[-1].id if data else None)


@router.get("/v1/documents/{id:path}", response_model=DocumentReply, responses=responses(400, 401, 404, 503))
async def get_document(id: str, request: Request, scope: Scope) -> DocumentReply:
    """One document with its text."""
    state = state_of(request)
    _check_id(id)
    found = await _working(request, lambda: state.library.get(scope, [id]))
    if id not in found:
        raise _missing(id)
    stored = found[id]
    return DocumentReply(
        **_summary(stored),
        text=stored.text,
        sources=list(stored.sources),
        score=stored.score,
        metadata=dict(stored.metadata),
    )


@router.put("/v1/documents/{id:path}", response_model=PutReply, response_model_exclude_none=True, responses=responses(400, 401, 429, 503, 504))
async def put_document(
    id: str,
    body: Annotated[dict[str, Any], Body(description="A document in one of the forms; an id in it must be that of the path. `encode` and `layout` may stand beside its fields.")],
    request: Request,
    scope: Scope,
    encode: Annotated[bool, Query(description="Encode it before the answer comes.")] = False,
) -> PutReply:
    """Keep one document under an id."""
    _check_id(id)
    wanted = body.pop("encode", False)
    if not isinstance(wanted, bool):
        raise ApiError(400, "encode: expected true or false", param="encode")
    layout = body.pop("layout", None)
    return await _put([body], id, encode or wanted, layout, request, scope)


@router.delete("/v1/documents/{id:path}", response_model=DeleteReply, responses=responses(400, 401, 404, 503))
async def delete_document(id: str, request: Request, scope: Scope) -> DeleteReply:
    """Forget a document. What was encoded of it stays in the store of blocks, where only the same text under the same key finds it, until the store makes room."""
    state = state_of(request)
    _check_id(id)
    if not await _working(request, lambda: state.library.delete(scope, [id])):
        raise _missing(id)
    return DeleteReply(id=id)


@router.delete("/v1/documents", response_model=DeleteList, responses=responses(400, 401, 503))
async def delete_documents(request: Request, scope: Scope, id: Annotated[list[str], Query(min_length=1)]) -> DeleteList:
    """Forget several documents, as :func:`delete_document` does: ``?id=a&id=b``. Also for ids such as ``..``, which clients do not send in a path."""
    state = state_of(request)
    for one in id:
        _check_id(one, "the query")
    gone = await _working(request, lambda: state.library.delete(scope, id))
    return DeleteList(data=[DeleteReply(id=one, deleted=one in gone) for one in dict.fromkeys(id)])


async def _put(values: Sequence[object], id: str | None, encode: bool, layout: object, request: Request, scope: str) -> PutReply:
    state = state_of(request)

    with Held() as held:

        def keep() -> tuple[list[Stored], list[Future[tuple[int, int]]]]:
            documents = _documents(values, id, state)
            # First of all: where it is refused nothing is kept.
            passes = [held.hold(future) for future in _encode(documents, layout, state, scope)] if encode else []
            stored = [Stored.of(document) for document in documents]
            state.library.put(scope, stored)
            return stored, passes

        stored, passes = await _working(request, keep)
        done = [await while_connected(request, result_of(future)) for future in passes]
    # What the first pass computed the second finds in the store: only the first can tell what was there before.
    encoded = Encoded(tokens_reused=done[0][0], tokens_computed=sum(computed for _, computed in done)) if done else None
    return PutReply(data=[DocumentSummary(**_summary(one)) for one in stored], encoded=encoded)


def _documents(values: Sequence[object], id: str | None, state: State) -> list[Document]:
    """The documents that are to be kept."""
    place = "documents" if id is None else "body"
    most = state.settings.max_documents
    if len(values) > most:
        raise ApiError(400, f"{len(values):,} documents: at most {most:,} are taken at once", param="documents")
    documents: dict[str, Document] = {}
    for given in read_documents(values, place):
        where = given.place if id is None else "body"
        name = given.id or id
        if name is None:
            raise ApiError(400, f"{where}.id: a document needs an id to be found again", param=f"{where}.id")
        if given.stored:
            raise ApiError(400, f"{where}: expected a text, got the id alone", param=where)
        if id is not None and name != id:
            raise ApiError(400, f"{where}.id: expected {id!r} as in the path, or none, got {name!r}", param=f"{where}.id")
        if name in documents:
            raise ApiError(400, f"{where}.id: {name!r} is there twice", param=f"{where}.id")
        documents[name] = given.document(name)
    check_size(documents.values(), state.settings)
    edges, most = sum(len(d.sources) for d in documents.values()), state.settings.max_edges
    if edges > most:
        raise ApiError(400, f"{edges:,} sources: at most {most:,} are taken at once", param="documents")
    return list(documents.values())


def _encode(documents: Sequence[Document], layout: object, state: State, scope: str) -> Iterator[Future[tuple[int, int]]]:
    """Have every document encoded by itself, and then along its edges where there are any.

    Both are needed: a document that reads others has other KV than the same one alone, and which of them a question wants depends on whether
    it brings the sources.
    """
    choice = read_choice(layout, state.settings.layout, "layout")
    alone = SegmentGraph.from_documents([Document(d.id, d.text, d.title, score=d.score) for d in documents])
    joined = with_sources(documents, Shelf(state.library, scope, state.settings))
    graphs = [graph for graph in (alone, joined) if graph is not None]
    for graph in graphs:
        check_reads(choice, graph, state.settings.max_edges)
    for graph in graphs:
        yield state.scheduler.encode(graph, layout=choice.layout, options=choice.options, scope=scope)


async def _working(request: Request, work: Callable[[], T]) -> T:
    """Work that takes a moment, in a thread of its own."""
    return await while_connected(request, asyncio.to_thread(work))


def _summary(stored: Stored) -> dict[str, Any]:
    size = len(stored.text) + len(stored.title or "")
    return {"id": stored.id, "title": stored.title, "characters": size, "created_at": stored.created or int(time.time())}


def _check_id(id: str, where: str = "the path") -> None:
    if problem := id_problem(id):
        raise ApiError(400, f"{where}: {problem}", param="id")


def _missing(id: str) -> ApiError:
    return ApiError(404, f"there is no document {id!r} in the library", code="document_not_found", param="id")
