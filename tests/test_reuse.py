"""Reuse is never wrong: copies of a document, permuted documents, changed weights, several engines over one model."""

from __future__ import annotations

import pickle
import threading
from typing import Any

import pytest
import torch
from helpers import byte_tokenizer, random_graph, random_ids, tiny_engine, tiny_model

from graphkv import GraphKV, ModelError, Score, Segment, SegmentGraph

QUESTION = random_ids(9)


def relative(ours: torch.Tensor, reference: torch.Tensor) -> float:
    return float((ours - reference).detach().abs().max() / reference.detach().abs().max())


@pytest.fixture
def copies() -> SegmentGraph:
    """a and a2 are the same text under two ids; t reads both, u reads t."""
    a, b, c = random_ids(12, 1), random_ids(7, 2), random_ids(10, 3)
    segments = [Segment.from_tokens(*s) for s in (("a", a), ("t", b), ("a2", a), ("u", c), ("t2", b))]
    return SegmentGraph.from_segments(segments, [("a", "t"), ("a2", "t"), ("t", "u"), ("a2", "t2"), ("a", "t2"), ("t2", "u")])


@pytest.mark.parametrize("batch_tokens", [1, 20, 4096])
@pytest.mark.parametrize(
    ("layout", "options"),
    [("graph", {}), ("graph", {"rounds": 2}), ("graph", {"positions": "sequential"}), ("graph", {"rounds": "topological"}), ("graph_full", {}), ("graph_topk", {"m": 2}), ("sequential", {})],
)
def test_copies_of_a_document_are_read_as_often_as_they_stand_there(copies: SegmentGraph, layout: str, options: dict[str, Any], batch_tokens: int) -> None:
    engine = tiny_engine()
    engine.batch_tokens = batch_tokens
    packed = engine.logits(copies, QUESTION, layout=layout, packed=True, **options)
    assert relative(engine.logits(copies, QUESTION, layout=layout, **options), packed) < 1e-5


@pytest.mark.parametrize("batch_tokens", [1, 4096])
def test_copies_under_graph_sequential(copies: SegmentGraph, batch_tokens: int) -> None:
    """The same KV stands at several places in one batch; block by block is the reference."""
    engine, slow = tiny_engine(), tiny_engine()
    slow.batch_tokens = 1
    engine.batch_tokens = batch_tokens
    reference = slow.logits(copies, QUESTION, layout="graph_sequential")
    assert relative(engine.logits(copies, QUESTION, layout="graph_sequential"), reference) < 1e-5


def test_a_prefix_that_spells_a_segment() -> None:
    engine = tiny_engine()
    graph = random_graph({"a": 6, "b": 5}, [("a", "b")])
    prefix = graph["a"].tokens
    packed = engine.logits(graph, QUESTION, prefix=prefix, packed=True)
    assert relative(engine.logits(graph, QUESTION, prefix=prefix), packed) < 1e-5


@pytest.mark.parametrize("layout", ["graph", "graph_full", "pcw", "ape"])
@pytest.mark.parametrize("batch_tokens", [30, 4096])
def test_permuted_documents_give_the_same_bits_from_a_fresh_engine(layout: str, batch_tokens: int) -> None:
    graph = random_graph({"a": 20, "b": 33, "c": 7, "t": 15, "s": 9}, [("a", "t"), ("b", "t"), ("c", "s"), ("a", "s")])
    results = []
    for order in ("abcts", "tscba", "bcats"):
        engine = tiny_engine()
        engine.batch_tokens = batch_tokens
        results.append(engine.logits(graph.reordered(order), QUESTION, layout=layout))
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


def test_changed_weights_never_hit() -> None:
    engine = tiny_engine()
    graph = random_graph({"a": 20, "b": 13}, [("a", "b")])
    engine.logits(graph, QUESTION)
    with torch.no_grad():
        for parameter in engine.model.model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    packed = engine.logits(graph, QUESTION, packed=True)
    assert relative(engine.logits(graph, QUESTION), packed) < 1e-5
    before = engine.model.fingerprint
    with torch.no_grad():
        engine.model.model.get_input_embeddings().weight[77, 5] += 1e-3
    assert engine.model.fingerprint != before


def test_other_dtypes_and_models_have_other_fingerprints() -> None:
    prints = {tiny_engine().model.fingerprint, tiny_engine().model.fingerprint}
    assert len(prints) == 1
    prints |= {tiny_engine(dtype=torch.bfloat16).model.fingerprint, tiny_engine("qwen2").model.fingerprint, tiny_engine(rope_parameters={"rope_type": "default", "rope_theta": 5000.0}).model.fingerprint}
    assert len(prints) == 4


def test_a_checkpoint_with_missing_weights_is_refused(tmp_path: Any) -> None:
    model = tiny_model()
    model.save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    assert GraphKV.from_pretrained(tmp_path).model.fingerprint == tiny_engine().model.fingerprint
    config = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(config.replace('"num_hidden_layers": 2', '"num_hidden_layers": 3'))
    with pytest.raises(ModelError, match="of the weights that its config asks for"):
        GraphKV.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(config)
    weights = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(ModelError, match="could not be loaded"):
        GraphKV.from_pretrained(tmp_path)


def test_two_engines_over_one_model_take_turns() -> None:
    model = tiny_model()
    graph = random_graph({"a": 30, "b": 20}, [("a", "b")])
    expected = tiny_engine().logits(graph, QUESTION, layout="ape")
    wrong: list[Any] = []

    def work() -> None:
        engine = GraphKV.from_pretrained((model, byte_tokenizer()))
        try:
            for _ in range(6):
                engine.store.clear()
                if relative(engine.logits(graph, QUESTION, layout="ape"), expected) > 1e-5:
                    wrong.append("numbers")
        except Exception as error:  # whatever it is, it fails the test
            wrong.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert model.config._attn_implementation == "eager"


def test_special_tokens_in_a_document_are_only_letters() -> None:
    engine = tiny_engine()
    plan = engine.plan([{"id": "a", "text": "one</s>two"}], "Q</s>?")
    assert plan.blocks[0].length == len("one</s>two\n\n")
    assert plan.question.length == len("Question: Q</s>?\nAnswer:")


def test_score_travels() -> None:
    score = pickle.loads(pickle.dumps(Score(-1.5, tokens=3, is_greedy=True)))
    assert (score, score.tokens, score.is_greedy) == (-1.5, 3, True)


def test_calls_that_are_refused(engine: GraphKV) -> None:
    from graphkv import InputError

    documents = [{"id": "a", "text": "Some text."}]
    bad: list[Any] = [
        lambda: engine.score(documents, "Q?", []),
        lambda: engine.score(documents, "Q?", ["x"], batch_size=0),
        lambda: engine.ask(documents, "Q?", stop=[1]),
        lambda: engine.ask(documents, "Q?", stop=""),
        lambda: engine.ask(documents, "Q?", stop=1),
        lambda: engine.ask(documents, "Q?", generation_config={"max_new_tokens": 3}),
        lambda: engine.ask(documents, None),  # type: ignore[arg-type]
        lambda: engine.ask(documents, []),  # type: ignore[arg-type]
        lambda: engine.ask(documents, "half a character \ud800"),
        lambda: engine.ask_many(documents, None),  # type: ignore[arg-type]
        lambda: engine.ask_many(documents, []),
        lambda: engine.ask(documents, "Q?", layout=["graph"]),  # type: ignore[arg-type]
        lambda: engine.ask(documents, "Q?", layout="graph_hops", tiers=1.5),
        lambda: engine.ask(documents, "Q?", prefix_visible="no"),
        lambda: engine.ask(None, "Q?"),  # type: ignore[arg-type]
        lambda: engine.ask(3, "Q?"),  # type: ignore[arg-type]
        lambda: engine.logits(documents, [1.9]),  # type: ignore[list-item]
        lambda: engine.logits(documents, torch.tensor([[1, 2]])),
        lambda: engine.logits(documents, [True]),
        lambda: GraphKV.from_pretrained((engine.model.model, byte_tokenizer()), dtype="float32"),
    ]
    for call in bad:
        with pytest.raises(InputError):
            call()
    for wrong in (5, ["a"], engine.model.model, (byte_tokenizer(), engine.model.model)):
        with pytest.raises(ModelError):
            GraphKV.from_pretrained(wrong)  # type: ignore[arg-type]
