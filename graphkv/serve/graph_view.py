"""``POST /v1/graph``: where documents and edges stand in a drawing, and what reading them takes."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request

from graphkv.engine import GraphKV
from graphkv.graph import SegmentGraph
from graphkv.places import colour_names, edge_colour, label_of, node_colours, node_places, overview, shorten
from graphkv.serve.asking import read_drawing
from graphkv.serve.documents import document_of
from graphkv.serve.errors import responses
from graphkv.serve.keys import Scope
from graphkv.serve.layout_choice import Choice
from graphkv.serve.replies import DrawnEdge, GraphReply, Node, Plan
from graphkv.serve.schema import GraphRequest
from graphkv.serve.state import state_of
from graphkv.serve.waiting import while_connected

router = APIRouter(tags=["graph"])

_UNIT = 14.0  # pixels a label height
_SHOWN = 240  # characters of a text


@router.post("/v1/graph", response_model=GraphReply, responses=responses(400, 401, 404, 504))
async def graph_view(body: GraphRequest, request: Request, scope: Scope) -> GraphReply:
    """Draw documents: places, colours, tokens. Nothing is encoded."""
    state = state_of(request)

    def work() -> GraphReply:
        graph, choice = read_drawing(body, state, scope)
        return draw(state.scheduler.engine, graph, choice)

    return await while_connected(request, asyncio.to_thread(work))


def draw(engine: GraphKV, graph: SegmentGraph, choice: Choice) -> GraphReply:
    """The drawing of a graph, and its plan under a layout.

    Raises:
        InputError: the layout cannot be made of it, or it does not fit into the model's window.
    """
    plan = engine.plan(graph, layout=choice.layout, **choice.options)
    lengths = {b.segment: b.length for b in plan.blocks if b.segment is not None}  # one a segment, however many blocks it has
    tokens: dict[str, int] = {}
    for segment, length in lengths.items():
        id = document_of(graph, segment)
        tokens[id] = tokens.get(id, 0) + length
    view = overview(graph)
    shown, places = view.graph, node_places(view.graph)
    names, meaning = colour_names(), node_colours(shown)
    nodes = [
        Node(
            id=segment.id,
            title=segment.title,
            label=label_of(shown, segment.id),
            text=shorten(segment.text or "", _SHOWN),
            tokens=tokens.get(segment.id, 0),
            x=round(places.xy[segment.id][0] * _UNIT, 1),
            y=round((places.xy[segment.id][1] + 1) * _UNIT, 1),
            angle=round(places.angles[segment.id], 1) if segment.id in places.angles else None,
            colour=names[meaning[segment.id]],
        )
        for segment in shown
    ]
    return GraphReply(
        nodes=nodes,
        edges=[DrawnEdge(source=edge[0], target=edge[1], kind=edge.kind, colour=edge_colour(edge)) for edge in shown.edges],
        width=round(places.width * _UNIT, 1),
        height=round((places.height + 2) * _UNIT, 1),
        plan=Plan(tokens=plan.total_tokens, blocks=sum(b.segment is not None for b in plan.blocks), positions=plan.window, window=engine.model.window),
        note=view.note,
        colours={name: colour for name, colour in names.items() if name in meaning.values()},
    )
