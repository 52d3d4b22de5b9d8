"""InfiniRetri: a text of any length through a small window, by the model's own attention (arXiv 2502.12962).

The text goes past the question window by window (:mod:`graphkv_retrieval.scan`); the sentences that the question looks at are kept, and the
answer is read from them. Memory does not grow with the text, and no model is trained for it. Every question reads everything again.

Where it meets Graph-KV: with `neighbours` the segments that the kept ones cite, or are cited by, are kept too, and the answer is read along the edges.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from graphkv.errors import InputError, LengthError, check_count, one_of
from graphkv.generate import Completion, complete_prompts, decoding
from graphkv.graph import SegmentGraph
from graphkv.layouts import LAYOUTS
from graphkv.progress import late_progress
from graphkv.segments import Segment
from graphkv.store.memory import MemoryStore
from graphkv.strategies import Host, Request, Strategy
from graphkv.strategy import Answer, SegmentUse, Timings
from graphkv.tokens import Documents, Text, Tokens

from .heads import question_start
from .options import Options, choose
from .scan import Asked, Kept, pack, scan
from .sentences import Sentences, find_sentences

if TYPE_CHECKING:
    from graphkv.model import GraphModel

PLAIN = "plain"
"""The kept sentences as one text behind the prefix, read as the model reads any prompt."""


class InfiniRetri(Strategy):
    """Sentences that the question attends to, kept window by window, and the answer read from them.

    Example:
        >>> engine.ask(long_documents, "What is the pass key?", strategy="infini_retri", window=1024).text  # doctest: +SKIP
        '71432'
    """

    name = "infini_retri"
    query_aware = True
    summary = "any length, window by window: the sentences that the question attends to are kept"

    def ask_many(  # type: ignore[override]  # its options are named
        self,
        engine: Host,
        documents: Documents,
        questions: Sequence[Text],
        request: Request,
        *,
        window: int | None = None,
        top_tokens: int | None = None,
        phrase: int = 8,
        layers: int | Sequence[int] | None = None,
        heads: str | Sequence[int] | Sequence[Sequence[int]] | None = None,
        rows: str | None = None,
        budget: int | None = None,
        windows_at_once: int = 1,
        neighbours: str = "none",
        hops: int = 1,
        read: str | None = None,
    ) -> list[Answer]:
        """Answer `questions`: every window of the text is read once for each of them.

        Args:
            window: tokens of the text in one window; the kept sentences come on top. 1024 as in the paper, unless something else was saved with
                the model's retrieval heads. top_tokens: the best tokens, whose sentences are kept; 300, with the same exception.
            phrase: neighbouring tokens over which a weight is summed.
            layers, heads: whose attention decides. Neither: the retrieval heads saved beside the model (``graphkv heads``), else the last layer with
                all its heads, as in the paper. `layers`: a layer or several, negative ones from the end; `heads`: ``"all"``, heads of each of these
                layers, or pairs (layer, head).
            rows: ``question``, as in the paper, or ``last``: the prompt's last token alone. What was saved with the heads goes with the saved heads only.
            budget: most tokens kept; as many as the model's window has room for beside a window and the question. A sentence of more tokens than
                the window or the budget is cut.
            windows_at_once: windows read against the same kept sentences, as one batch, before they compete; more than 1 is not in the paper, and no faster
                on a CPU.
            neighbours: ``none``, ``sources``, ``targets`` or ``both`` of each segment of which something was kept are kept too, `hops` edges far, and
                they and it are kept whole, as far as the budget goes. A question that names a paper to ask for another one is for heads that find the
                name: with the embedded model ``heads=[(2, 0), (2, 1)], rows="question"``.
            read: how the answer is read: ``plain``, one prompt of the kept sentences, or a layout's name, over the kept parts as segments with the
                edges between them; ``graph`` with neighbours, else ``plain``.

        Raises:
            InputError: options that cannot be meant. LengthError: question, window and budget do not fit into the model's window.
        """
        begin = time.perf_counter()
        model = engine.model
        options = choose(model, window=window, top_tokens=top_tokens, phrase=phrase, layers=layers, heads=heads, rows=rows, windows_at_once=windows_at_once)
        read = _checked_reading(read, neighbours, hops)
        tokens = engine.reader.read(documents, questions, request.prefix, answer_prefix=request.answer_prefix)
        budget = room(model, tokens, options, budget)
        config = decoding(model, len(tokens.prefix) + max(map(len, tokens.questions)) + 1, request.max_new_tokens, request.stop, request.generation_config)
        longest = min(options.window, budget)  # the best sentence always has room
        text = find_sentences(model.tokenizer, tokens.segments, longest)
        asked = [Asked(ids, _start(engine, question, ids)) for question, ids in zip(questions, tokens.questions, strict=True)]
        planned = time.perf_counter()
        with late_progress("scanning tokens") as progress:
            settings = options.settings(budget, engine.batch_tokens)
            kept = scan(model, text, pack(text.lengths, options.window), tokens.prefix, asked, settings, progress=progress)
        times = _Times(begin, planned, time.perf_counter())
        if read == PLAIN:
            answers = _read_plain(engine, tokens, text, kept, config, request, times)
        else:
            answers = []
            for question, mine in zip(questions, kept, strict=True):
                parts = _parts(text, mine)
                scores = {use.id: use.score or 0.0 for use in _uses(text, mine)}
                left_out = 0
                if neighbours != "none":
                    parts, left_out = _with_neighbours(tokens, parts, scores, neighbours, hops, budget)
                answer = _read_layout(engine, tokens, parts, scores, mine, question, request, read, times)
                full = (f"the budget was full: {left_out} segments were not kept whole, or not at all",) if left_out else ()
                answers.append(replace(answer, notes=(*full, *answer.notes)))
        return [replace(answer, notes=(*_notes(options, text, mine, longest), *answer.notes)) for answer, mine in zip(answers, kept, strict=True)]


@dataclass(frozen=True)
class _Times:
    """Moments: the call, the sentences are there, the scan is done."""

    begin: float
    planned: float
    scanned: float

    def of(self, first: float, assemble: float = 0.0) -> Timings:
        return Timings(self.planned - self.begin, self.scanned - self.planned, assemble, first - self.begin, time.perf_counter() - self.begin)


def _checked_reading(read: str | None, neighbours: str, hops: int) -> str:
    ways = ("none", "sources", "targets", "both")
    if neighbours not in ways:
        raise InputError(one_of("kind of neighbours", neighbours, ways))
    check_count("hops", hops)
    if hops != 1 and neighbours == "none":
        raise InputError("hops says how far neighbours are: it needs neighbours=sources, targets or both")
    if read is not None and read != PLAIN and read not in LAYOUTS:
        raise InputError(one_of("way to read", read, [PLAIN, *LAYOUTS]))
    return read or (PLAIN if neighbours == "none" else "graph")


def room(model: GraphModel, tokens: Tokens, options: Options, budget: int | None) -> int:
    """Tokens that may be kept. Raises LengthError if prefix, kept sentences, a window and the longest question are more than the model's window."""
    if budget is not None:
        check_count("budget", budget)
    if not all(tokens.questions):
        raise InputError("the question is empty: expected some text")
    fixed = len(tokens.prefix) + max(map(len, tokens.questions))
    if fixed >= model.window:
        raise LengthError(f"prefix and question have {fixed} tokens, the model's window is {model.window}: no room for documents; ask a shorter question")
    room = model.window - fixed - options.window
    if room < 1:
        raise LengthError(
            f"window={options.window} does not fit: beside prefix and question ({fixed} tokens) the model's window of {model.window} has room for "
            f"{model.window - fixed} tokens, and some must be left for what is kept; choose a smaller window"
        )
    if budget is not None and budget > room:
        raise LengthError(f"budget={budget} does not fit: beside prefix, question ({fixed} tokens) and window={options.window} the model's window of {model.window} has room for {room}")
    return room if budget is None else budget


def _start(engine: Host, question: Text, ids: Sequence[int]) -> int:
    """Where the user's words begin; a question of ready token ids is all the user's."""
    return question_start(engine, ids) if isinstance(question, str) else 0


def _read_plain(engine: Host, tokens: Tokens, text: Sentences, kept: list[Kept], config: Any, request: Request, times: _Times) -> list[Answer]:
    """The kept sentences, one after the other, and the question: decoded as batches of whole prompts."""
    prompts = [[*tokens.prefix, *text.tokens(mine.sentences).tolist(), *question] for mine, question in zip(kept, tokens.questions, strict=True)]
    # What fits was planned with one token of documents: a long answer may not fit behind all that was kept.
    config.max_new_tokens = min(config.max_new_tokens, engine.model.window - max(map(len, prompts)))
    answers: list[Answer] = []
    for start in range(0, len(prompts), request.batch_size):
        part = slice(start, start + request.batch_size)
        completions, first = complete_prompts(engine.model, prompts[part], config)
        answers += [_plain_answer(c, text, mine, len(p), times.of(first)) for c, mine, p in zip(completions, kept[part], prompts[part], strict=True)]
    return answers


def _plain_answer(completion: Completion, text: Sentences, kept: Kept, prompt: int, timings: Timings) -> Answer:
    uses = _uses(text, kept)
    return Answer(
        text=completion.text,
        token_ids=completion.token_ids,
        finish_reason=completion.finish_reason,
        segments=uses,
        layout=PLAIN,
        tokens_reused=0,
        tokens_computed=kept.tokens_computed + prompt,
        tokens_generated=len(completion.token_ids),
        timings=timings,
        strategy=InfiniRetri.name,
        query_aware=True,
        tokens_read=kept.tokens_read,
        tokens_kept=sum(use.tokens for use in uses),
    )


def _uses(text: Sentences, kept: Kept) -> tuple[SegmentUse, ...]:
    """What was kept of each segment, and its share of the attention on all that was kept."""
    lengths, total = text.lengths, float(kept.scores.sum()) or 1.0
    uses = []
    for number in np.unique(text.segment[kept.sentences]).tolist():
        mine = text.segment[kept.sentences] == number
        count = int(lengths[kept.sentences[mine]].sum())
        uses.append(SegmentUse(text.segments[number], count, (), (), False, float(kept.scores[mine].sum()) / total))
    return tuple(uses)


def _parts(text: Sentences, kept: Kept) -> dict[str, tuple[int, ...]]:
    """Token ids of what was kept, by segment, in the graph's order."""
    of = text.segment[kept.sentences]
    return {text.segments[number]: tuple(text.tokens(kept.sentences[of == number]).tolist()) for number in np.unique(of).tolist()}


def _with_neighbours(
    tokens: Tokens, parts: dict[str, tuple[int, ...]], scores: Mapping[str, float], neighbours: str, hops: int, budget: int
) -> tuple[dict[str, tuple[int, ...]], int]:
    """Whole segments, as far as the budget goes: those of which something was kept, by their score, then their neighbours, the nearest first.

    Told with how many it had no room for. A kept sentence without the one beside it that cites another paper would have no edge to tell of.
    """
    found, left, left_out = dict(parts), budget - sum(map(len, parts.values())), 0
    for id in around(tokens.graph, sorted(parts, key=lambda id: -scores[id]), neighbours, hops):
        more = len(tokens.segments[id]) - len(found.get(id, ()))
        if more <= left:
            found[id] = tokens.segments[id]
            left -= more
        else:
            left_out += 1
    return found, left_out


def around(graph: SegmentGraph, ids: Sequence[str], neighbours: str, hops: int) -> Iterator[str]:
    """`ids`, and then what is at most `hops` edges away, the nearest first.

    Example:
        >>> graph = SegmentGraph.from_segments([Segment.from_tokens(id, [1]) for id in "abc"], [("a", "b"), ("b", "c")])
        >>> list(around(graph, ["c"], "sources", 1))
        ['c', 'b']
    """
    seen, edge = set(ids), list(ids)
    for hop in range(hops + 1):
        yield from edge
        if hop < hops:
            near = [other for id in edge for other in (*(graph.sources(id) if neighbours != "targets" else ()), *(graph.targets(id) if neighbours != "sources" else ()))]
            edge = [other for other in dict.fromkeys(near) if other not in seen]
            seen.update(edge)


def _read_layout(
    engine: Host, tokens: Tokens, parts: Mapping[str, tuple[int, ...]], scores: Mapping[str, float], kept: Kept, question: Text, request: Request, layout: str, times: _Times
) -> Answer:
    """Parts of segments with the edges between them, read by the engine under a layout; what it encodes stays out of the user's store."""
    part = tokens.graph.subgraph(parts)
    smaller = part.with_segments(Segment.from_tokens(id, parts[id], score=scores.get(id)) for id in part.ids)
    aside = copy.copy(engine)
    aside.store = MemoryStore()
    answer = aside.ask_many(smaller, [question], layout=layout, **vars(request))[0]
    begin = time.perf_counter() - answer.timings.total
    return replace(
        answer,
        segments=tuple(replace(use, score=scores.get(use.id)) for use in answer.segments),
        strategy=InfiniRetri.name,
        query_aware=True,
        tokens_read=kept.tokens_read + answer.tokens_read,
        tokens_kept=sum(map(len, parts.values())),
        tokens_computed=kept.tokens_computed + answer.tokens_computed,
        timings=times.of(begin + answer.timings.first_token, answer.timings.assemble),
    )


def _notes(options: Options, text: Sentences, kept: Kept, longest: int) -> tuple[str, ...]:
    notes = list(options.notes)
    if text.cut:
        notes.append(f"sentences of more than {longest} tokens, which is the window or the budget, were cut: {text.cut}")
    if kept.over_budget:
        notes.append(f"the budget was full: sentences left out, all windows together: {kept.over_budget}")
    return tuple(notes)
