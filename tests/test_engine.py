"""The public API on a tiny random model: reuse, streams, batches, stop strings, what stays untouched."""

from __future__ import annotations

import threading
from typing import Any

import networkx as nx
import pytest
import torch
from helpers import byte_tokenizer, random_graph, random_ids, tiny_engine, tiny_model
from transformers import GenerationConfig

from graphkv import LAYOUTS, Document, GraphKV, InputError, MemoryStore, PromptTemplate, Segment, SegmentGraph

DOCUMENTS = [
    {"id": "a", "title": "Alpha", "text": "The first paper.", "sources": ["b", "c"]},
    {"id": "b", "title": "Beta", "text": "The second one, a little longer.", "cites": ["c"]},
    {"id": "c", "text": "A third without title."},
]
QUESTION = "Which paper is first?"


@pytest.fixture
def graph() -> SegmentGraph:
    return SegmentGraph.from_documents(DOCUMENTS)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_ask_under_every_layout(engine: GraphKV, graph: SegmentGraph, layout: str) -> None:
    answer = engine.ask(graph, QUESTION, layout=layout, max_new_tokens=5)
    assert answer.layout == layout
    assert len(answer.token_ids) <= 5
    assert {use.id for use in answer.segments} == {"a", "b", "c"}
    plan = engine.plan(graph, QUESTION, layout=layout)
    assert answer.tokens_reused + answer.tokens_computed == plan.total_tokens
    assert answer.timings.total >= answer.timings.first_token > 0


def test_a_second_question_computes_only_itself(engine: GraphKV, graph: SegmentGraph) -> None:
    first = engine.ask(graph, QUESTION, max_new_tokens=3)
    second = engine.ask(graph, QUESTION, max_new_tokens=3)
    assert first.tokens_reused == 0
    assert second.tokens_computed == engine.plan(graph, QUESTION).question.length
    assert second.tokens_reused == first.tokens_computed - second.tokens_computed
    assert second.token_ids == first.token_ids
    assert all(use.reused for use in second.segments) and not any(use.reused for use in first.segments)


def test_encode_first_answer_later(engine: GraphKV, graph: SegmentGraph) -> None:
    encoded = engine.encode(graph)
    assert encoded.tokens_reused == 0
    assert engine.encode(graph).tokens_computed == 0
    assert engine.ask(graph, QUESTION, max_new_tokens=2).tokens_reused == encoded.tokens_computed


def test_layouts_share_what_they_can(engine: GraphKV, graph: SegmentGraph) -> None:
    """Segments encoded alone serve block, graph and graph_full wherever they stand."""
    alone = engine.encode(graph, layout="block").tokens_computed
    assert engine.encode(graph, layout="graph_full").tokens_reused == alone
    assert engine.encode(graph, layout="graph", positions="paper").tokens_reused > 0


def test_answers_do_not_depend_on_what_is_in_the_store(graph: SegmentGraph) -> None:
    """Encode in every order and batch; the logits of a warm engine are those of a cold one, bit for bit per store entry."""
    cold = tiny_engine().logits(graph, QUESTION)
    for warm_up in ("block", "sequential", "graph_full", "pcw"):
        engine = tiny_engine()
        engine.encode(graph, layout=warm_up)
        assert torch.allclose(engine.logits(graph, QUESTION), cold, rtol=0, atol=1e-5 * float(cold.abs().max()))


def test_stored_kv_is_bit_identical_after_generation(engine: GraphKV, graph: SegmentGraph) -> None:
    encoded = engine.encode(graph)
    before = [(k.clone(), v.clone()) for kv in encoded.blocks for k, v in zip(kv.keys, kv.values, strict=True)]
    engine.ask(graph, QUESTION, max_new_tokens=8)
    engine.ask_many(graph, [QUESTION, "Why?"], max_new_tokens=8)
    list(engine.stream(graph, QUESTION, layout="ape", max_new_tokens=8))
    engine.score(graph, QUESTION, [" yes", " no"])
    after = [(k, v) for kv in engine.encode(graph).blocks for k, v in zip(kv.keys, kv.values, strict=True)]
    assert all(torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in zip(before, after, strict=True))


@pytest.mark.parametrize("layout", ["graph", "ape", "sequential", "graph_sequential"])
def test_a_batch_of_questions_equals_one_at_a_time(engine: GraphKV, graph: SegmentGraph, layout: str) -> None:
    questions = [QUESTION, "Why?", "A much longer question about the papers, with many words in it, is this one?"]
    together = engine.ask_many(graph, questions, layout=layout, max_new_tokens=6)
    for question, answer in zip(questions, together, strict=True):
        alone = engine.ask(graph, question, layout=layout, max_new_tokens=6)
        # the window leaves less room behind a longer question, but not here: the texts are the same
        assert answer.token_ids == alone.token_ids
    assert [a.token_ids for a in engine.ask_many(graph, questions, layout=layout, max_new_tokens=6, batch_size=2)] == [a.token_ids for a in together]


@pytest.mark.parametrize("layout", ["graph", "ape"])
def test_stream_gives_the_answer_in_pieces(engine: GraphKV, graph: SegmentGraph, layout: str) -> None:
    whole = engine.ask(graph, QUESTION, layout=layout, max_new_tokens=12)
    pieces = list(engine.stream(graph, QUESTION, layout=layout, max_new_tokens=12))
    assert "".join(pieces) == whole.text
    assert len(pieces) > 1 or set(whole.text) == {"\ufffd"}  # half characters are held back


def test_leaving_a_stream_early_stops_its_thread(engine: GraphKV, graph: SegmentGraph) -> None:
    stream = engine.stream(graph, QUESTION, max_new_tokens=2000)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert not [t for t in threading.enumerate() if t.name == "graphkv-stream"]
    assert engine.ask(graph, QUESTION, max_new_tokens=2)  # the model is free again


def test_an_error_while_streaming_reaches_the_listener(engine: GraphKV, graph: SegmentGraph, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("no more memory")

    monkeypatch.setattr(engine.model.model, "generate", broken)
    with pytest.raises(RuntimeError, match="no more memory"):
        list(engine.stream(graph, QUESTION))


def test_stop_strings_end_the_answer_and_are_not_shown(engine: GraphKV, graph: SegmentGraph) -> None:
    free = engine.ask(graph, QUESTION, max_new_tokens=12)
    stop = free.text[4:6]
    stopped = engine.ask(graph, QUESTION, max_new_tokens=12, stop=stop)
    assert stopped.text == free.text[: free.text.index(stop)].strip()
    assert stopped.finish_reason == "stop" and free.finish_reason == "length"
    assert "".join(engine.stream(graph, QUESTION, max_new_tokens=12, stop=[stop])) == stopped.text
    assert len(stopped.token_ids) < len(free.token_ids)


def test_sampling_through_generation_config(engine: GraphKV, graph: SegmentGraph) -> None:
    config = GenerationConfig(do_sample=True, temperature=5.0, max_new_tokens=10)
    torch.manual_seed(1)
    one = engine.ask(graph, QUESTION, generation_config=config)
    torch.manual_seed(1)
    same = engine.ask(graph, QUESTION, generation_config=config)
    torch.manual_seed(2)
    other = engine.ask(graph, QUESTION, generation_config=config)
    assert one.token_ids == same.token_ids != other.token_ids
    assert len(one.token_ids) <= 10


@pytest.mark.parametrize("layout", ["graph", "graph_full", "pcw", "ape"])
def test_permuting_sources_under_shared_positions_changes_no_bit(layout: str) -> None:
    engine = tiny_engine()
    graph = random_graph({"a": 20, "b": 33, "c": 7, "t": 15}, [("a", "t"), ("b", "t"), ("c", "t")])
    logits = engine.logits(graph, random_ids(9), layout=layout)
    for order in ("bcat", "tcba"):
        assert torch.equal(engine.logits(graph.reordered(order), random_ids(9), layout=layout), logits)
        fresh = tiny_engine()
        again = fresh.logits(graph.reordered(order), random_ids(9), layout=layout)
        assert torch.allclose(again, logits, rtol=0, atol=1e-5 * float(logits.abs().max()))


def test_editing_a_segment_changes_only_what_reads_it() -> None:
    """a → b, c alone; the question under `final` reads a@0, b@1, c@0. Editing c leaves a and b; editing a changes b."""
    engine = tiny_engine()
    edges = [("a", "b")]
    base = random_graph({"a": 10, "b": 12, "c": 9}, edges)

    def edited(id: str) -> SegmentGraph:
        return SegmentGraph.from_segments([Segment.from_tokens(s.id, random_ids(len(s.tokens or ()), 5) if s.id == id else s.tokens or ()) for s in base.segments], edges)

    def kv(graph: SegmentGraph) -> dict[str, torch.Tensor]:
        encoded = engine.encode(graph)
        return {b.name: torch.cat([*k.keys, *k.values], -1) for b, k in zip(encoded.layout.blocks, encoded.blocks, strict=False)}

    before, without_c, without_a = kv(base), kv(edited("c")), kv(edited("a"))
    assert torch.equal(before["b@1"], without_c["b@1"]) and not torch.equal(before["c@0"], without_c["c@0"])
    assert not torch.equal(before["b@1"], without_a["b@1"]) and torch.equal(before["c@0"], without_a["c@0"])


def test_the_models_own_generation_settings_do_not_leak_into_greedy_answers(graph: SegmentGraph) -> None:
    """A checkpoint may ship a repetition penalty, beams or a cache of its own; greedy is greedy all the same."""
    engine = tiny_engine()
    plain = engine.ask(graph, QUESTION, max_new_tokens=8)
    own = engine.model.model.generation_config
    own.repetition_penalty, own.no_repeat_ngram_size, own.num_beams, own.num_return_sequences = 3.0, 1, 4, 2
    own.return_dict_in_generate, own.cache_implementation = True, "static"
    assert engine.ask(graph, QUESTION, max_new_tokens=8).token_ids == plain.token_ids
    assert engine.model.model.generation_config is own
    penalised = engine.ask(graph, QUESTION, generation_config=GenerationConfig(max_new_tokens=8))
    assert len(set(penalised.token_ids)) == len(penalised.token_ids)  # no_repeat_ngram_size=1 of the model, as in transformers
    for setting in ({"num_beams": 2}, {"return_dict_in_generate": True}, {"cache_implementation": "static"}, {"num_return_sequences": 2}):
        with pytest.raises(InputError, match=next(iter(setting))):
            engine.ask(graph, QUESTION, generation_config=GenerationConfig(do_sample=True, **setting))


def test_score_is_the_log_likelihood_of_the_logits(engine: GraphKV, graph: SegmentGraph) -> None:
    continuations = ["xy", "a longer continuation"]
    scores = engine.score(graph, QUESTION, continuations, raw=True)
    for text, got in zip(continuations, scores, strict=True):
        ids = list(QUESTION.encode()) + list(text.encode())
        tokens = engine.reader.ids(QUESTION + text)
        assert len(tokens) == len(ids)
        logits = engine.logits(graph, QUESTION + text).log_softmax(-1)
        n = len(text)
        expected = logits[-n - 1 : -1].gather(-1, torch.tensor(tokens[-n:])[:, None]).sum()
        assert got == pytest.approx(float(expected), rel=1e-4)
        assert got.tokens == n
    best = engine.ask(graph, QUESTION, max_new_tokens=1)
    if best.token_ids:
        assert engine.score(graph, QUESTION, [best.token_ids])[0].is_greedy


def test_a_list_of_documents_is_as_good_as_a_graph(engine: GraphKV, graph: SegmentGraph) -> None:
    documents = [Document.from_dict(d) for d in DOCUMENTS]
    assert engine.ask(documents, QUESTION, max_new_tokens=4).text == engine.ask(graph, QUESTION, max_new_tokens=4).text
    assert engine.ask(DOCUMENTS, QUESTION, max_new_tokens=4).text == engine.ask(graph, QUESTION, max_new_tokens=4).text


def test_networkx_graph_reads_along_its_edges(engine: GraphKV) -> None:
    g = nx.DiGraph()
    g.add_node("u", text="source text")
    g.add_node("v", text="target text")
    g.add_edge("u", "v")
    assert engine.plan(SegmentGraph.from_networkx(g), "?").blocks[-2].name == "v@1"


def test_long_documents_become_chains(engine: GraphKV) -> None:
    text = "One sentence here. Another sentence there. A third one follows. And a fourth ends it."
    documents = [{"id": "long", "text": text, "title": "T", "sources": ["s"]}, {"id": "s", "text": "Short."}]
    graph = SegmentGraph.from_documents(documents, max_segment_tokens=60)
    answer = engine.ask(graph, QUESTION, max_new_tokens=2)
    ids = [use.id for use in answer.segments]
    assert "long#1" in ids and "long#2" in ids
    plan = engine.plan(graph, QUESTION)
    assert all(b.length <= 60 for b in plan.blocks if b.segment)
    second = next(b for b in plan.blocks if b.segment == "long#2" and b.round == 1)
    assert {plan.blocks[j].segment for j in second.reads} == {"s", "long#1"}


def test_prefix_replaces_the_templates(engine: GraphKV, graph: SegmentGraph) -> None:
    bos = engine.plan(graph, QUESTION)
    assert bos.blocks[0].role == "source"  # this tokenizer adds no BOS, so the plain template has no prefix
    plan = engine.plan(graph, QUESTION, prefix="Read this:")
    assert plan.blocks[0].role == "prefix" and plan.blocks[0].length == len("Read this:")
    assert engine.plan(graph, QUESTION, prefix="").blocks[0].role != "prefix"


def test_a_template_of_ones_own() -> None:
    template = PromptTemplate("", "{title}: {text}\n", "{text}\n", "Q: {question}\nA:")
    engine = GraphKV.from_pretrained((tiny_model(), byte_tokenizer()), template=template)
    plan = engine.plan([{"id": "a", "title": "T", "text": "xyz"}], "ab")
    assert [b.length for b in plan.blocks] == [len("T: xyz\n"), len("Q: ab\nA:")]


def test_store_budget_evicts_but_never_changes_an_answer(graph: SegmentGraph) -> None:
    free, tight = tiny_engine(), tiny_engine()
    tight.store = MemoryStore(max_bytes=20_000)
    assert tight.ask(graph, QUESTION, max_new_tokens=4).text == free.ask(graph, QUESTION, max_new_tokens=4).text
    assert 0 < tight.store.nbytes <= 20_000 < free.store.nbytes


def test_an_interrupted_encode_keeps_what_is_whole(graph: SegmentGraph) -> None:
    engine = tiny_engine()
    engine.batch_tokens = 1
    real, calls = engine.model.encode, 0

    def interrupted(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return real(*args)

    engine.model.encode = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        engine.encode(graph)
    engine.model.encode = real  # type: ignore[method-assign]
    assert len(engine.store) == 2
    assert engine.encode(graph).tokens_reused > 0
    assert torch.equal(engine.logits(graph, QUESTION), engine.logits(graph, QUESTION))


def test_the_model_is_left_as_it_was(engine: GraphKV, graph: SegmentGraph) -> None:
    model = engine.model.model
    before = model.config._attn_implementation
    engine.ask(graph, QUESTION, layout="ape", max_new_tokens=2)
    engine.logits(graph, QUESTION, packed=True)
    assert model.config._attn_implementation == before
    assert not model.get_decoder().rotary_emb._forward_hooks
