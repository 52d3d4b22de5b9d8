"""Bad input: one clear error of our tree each, naming what came and what was expected, and nothing changed by the attempt."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import byte_tokenizer, random_graph, random_ids, tiny_engine, tiny_model
from transformers import AutoModelForCausalLM, DeepseekV3Config, GenerationConfig, GPT2Config, T5Config

from graphkv import (
    LAYOUTS,
    Document,
    DocumentError,
    GraphError,
    GraphKV,
    GraphKVError,
    InputError,
    KernelError,
    LayoutError,
    LengthError,
    ModelError,
    Segment,
    SegmentGraph,
    UnsupportedModelError,
)
from graphkv.support import check_config
from graphkv_kernels import available_kernels

A, B = {"id": "a", "text": "The first paper."}, {"id": "b", "text": "The second one.", "sources": ["a"]}


@pytest.fixture(scope="module")
def shared() -> GraphKV:
    return tiny_engine()


@pytest.fixture
def untouched(shared: GraphKV) -> Iterator[GraphKV]:
    """The shared engine; afterwards its model must be as it was and nothing half-made may lie in its store."""
    model = shared.model.model
    before = model.config._attn_implementation
    shared.store.clear()
    yield shared
    assert model.config._attn_implementation == before == "eager"
    assert not model.get_decoder().rotary_emb._forward_hooks
    assert len(shared.store) == 0


@contextmanager
def refused(kind: type[GraphKVError], *words: str) -> Iterator[None]:
    """The block raises an error of exactly this kind, and its message holds all the words, on one line."""
    with pytest.raises(kind) as caught:
        yield
    message = str(caught.value)
    assert caught.type is kind
    assert [word for word in words if word not in message] == [], message
    assert "\n" not in message


# Documents and graphs.


DOCUMENTS: dict[str, tuple[list[Any], type[GraphKVError], tuple[str, ...]]] = {
    "unknown source": ([A, {**B, "sources": ["z"]}], GraphError, ("unknown source id 'z'", "read by 'b'", "2 segments")),
    "duplicate id": ([A, A], DocumentError, ("duplicate id 'a'",)),
    "empty document": ([{"id": "a", "text": " \n"}], DocumentError, ("document 'a' is empty", "leave it out")),
    "no documents": ([], GraphError, ("no segments", "at least one document")),
    "no text": ([A, {"id": "b", "body": "x"}], DocumentError, ("document 1: missing text", "['body', 'id']")),
    "no id": ([{"text": "x"}], DocumentError, ("document 0: missing id",)),
    "empty id": ([{"id": "", "text": "x"}], DocumentError, ("id must be a non-empty string, got ''",)),
    "text is a list": ([{"id": "a", "text": ["x"]}], DocumentError, ("'a': text must be a string, got list",)),
    "title is a number": ([{**A, "title": 3}], DocumentError, ("'title' must be a string, got 3",)),
    "score is a bool": ([{**A, "score": True}], DocumentError, ("'score' must be a finite number, got True",)),
    "score is text": ([{**A, "score": "0.3"}], DocumentError, ("'score' must be a finite number, got '0.3'",)),
    "sources is a string": ([{**A, "sources": "b"}], DocumentError, ("'sources' must be a list of document ids, got 'b'",)),
    "sources and cites": ([{**A, "sources": [], "cites": []}], DocumentError, ("both 'sources' and its alias 'cites'",)),
    "a string": (["just text"], DocumentError, ("document 0: expected an object", "got str")),
}


@pytest.mark.parametrize("case", DOCUMENTS)
def test_documents(untouched: GraphKV, case: str) -> None:
    documents, kind, words = DOCUMENTS[case]
    with refused(kind, *words):
        SegmentGraph.from_documents(documents)
    with refused(kind, *words):
        untouched.ask(documents, "Why?")


def test_documents_and_segments_made_by_hand() -> None:
    with refused(DocumentError, "document 'a' is empty"):
        Document("a", "")
    with refused(DocumentError, "segment 'a' is empty", "at least one token id"):
        Segment.from_tokens("a", [])
    with refused(DocumentError, "segment 'a' is empty", "some text"):
        Segment.from_text("a", "  ")
    with refused(DocumentError, "max_segment_tokens must be a whole number of at least 1, got 0"):
        SegmentGraph.from_documents([A], max_segment_tokens=0)
    with refused(GraphError, "unknown source id 'z'", "read by 'a'"):
        SegmentGraph.from_segments([Segment.from_text("a", "x")], [("z", "a")])
    with refused(GraphError, "unknown source id 'z'", "reads 'a'"):
        SegmentGraph.from_segments([Segment.from_text("a", "x")], [("a", "z")])


LINES: dict[str, tuple[list[str], type[GraphKVError], tuple[str, ...]]] = {
    "corrupt": ([json.dumps(A), "", '{"id": "b", '], DocumentError, ("line 3: not valid JSON", "column")),
    "not an object": ([json.dumps(A), "[1, 2]"], DocumentError, ("line 2: expected an object", "got list")),
    "duplicate id": ([json.dumps(A), json.dumps(B), json.dumps(A)], DocumentError, ("line 3: duplicate id 'a', first on line 1",)),
    "empty document": ([json.dumps({"id": "a", "text": ""})], DocumentError, ("line 1: document 'a' is empty",)),
    "missing key": ([json.dumps({"id": "a"})], DocumentError, ("line 1: missing text",)),
    "unknown source": ([json.dumps({**A, "sources": ["z"]})], GraphError, ("unknown source id 'z'",)),
    "nothing": (["", " "], GraphError, ("holds no documents",)),
}


@pytest.mark.parametrize("case", LINES)
def test_jsonl(tmp_path: Path, case: str) -> None:
    lines, kind, words = LINES[case]
    path = tmp_path / "docs.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    with refused(kind, *words, *(["docs.jsonl"] if "source" not in case else [])):
        SegmentGraph.from_jsonl(path)


def test_jsonl_files_that_cannot_be_read(tmp_path: Path) -> None:
    with refused(DocumentError, "no such file", "nowhere.jsonl"):
        SegmentGraph.from_jsonl(tmp_path / "nowhere.jsonl")
    with refused(DocumentError, "cannot be read as UTF-8"):
        SegmentGraph.from_jsonl(tmp_path)
    (tmp_path / "latin.jsonl").write_bytes(b'{"id": "a", "text": "caf\xe9"}')
    with refused(DocumentError, "latin.jsonl", "cannot be read as UTF-8"):
        SegmentGraph.from_jsonl(tmp_path / "latin.jsonl")


# Calls.


CALLS: dict[str, tuple[dict[str, Any], type[GraphKVError], tuple[str, ...]]] = {
    "unknown layout": ({"layout": "grpah"}, LayoutError, ("unknown layout 'grpah'; valid: ", *LAYOUTS)),
    "unknown option": ({"hops": 2}, LayoutError, ("layout 'graph' has no option 'hops'", "positions, prefix_visible, rounds, view")),
    "option of another layout": ({"layout": "pcw", "rounds": 2}, LayoutError, ("'pcw' has no option 'rounds'; it has none",)),
    "negative rounds": ({"rounds": -1}, LayoutError, ("rounds must be a number of rounds or 'topological', got -1",)),
    "bool rounds": ({"rounds": True}, LayoutError, ("rounds", "got True")),
    "text rounds": ({"rounds": "two"}, LayoutError, ("rounds", "got 'two'")),
    "unknown positions": ({"positions": "loose"}, LayoutError, ("unknown positions option 'loose'; valid: paper, sequential, tight",)),
    "unknown view": ({"view": "last"}, LayoutError, ("unknown view option 'last'; valid: all, final",)),
    "m of 0": ({"layout": "graph_topk", "m": 0}, LayoutError, ("m must be a whole number of at least 1, got 0",)),
    "bool m": ({"layout": "graph_sequential", "m": True}, LayoutError, ("m must be a whole number", "got True")),
    "fraction of m": ({"layout": "graph_topk", "m": 1.5}, LayoutError, ("m must be a whole number", "got 1.5")),
    "tiers as a number": ({"layout": "graph_hops", "tiers": 2}, LayoutError, ("tiers must be a sequence of sizes such as (1, 3), got 2",)),
    "empty tier": ({"layout": "graph_hops", "tiers": (1, 0)}, LayoutError, ("every tier must be a whole number of at least 1, got 0",)),
    "no tiers": ({"layout": "graph_hops", "tiers": ()}, LayoutError, ("tiers must be a sequence",)),
    "temperature of 0": ({"layout": "ape", "temperature": 0}, LayoutError, ("ape needs a finite temperature above 0, got 0",)),
    "scale as text": ({"layout": "ape", "scale": "0.9"}, LayoutError, ("ape needs a finite scale above 0, got '0.9'",)),
    "temperature not a number": ({"layout": "ape", "temperature": float("nan")}, LayoutError, ("above 0, got nan",)),
    "max_new_tokens of 0": ({"max_new_tokens": 0}, InputError, ("max_new_tokens must be a whole number of at least 1, got 0",)),
    "bool max_new_tokens": ({"max_new_tokens": True}, InputError, ("max_new_tokens", "got True")),
    "fraction of a token": ({"max_new_tokens": 2.5}, InputError, ("max_new_tokens", "got 2.5")),
    "beams": ({"generation_config": GenerationConfig(num_beams=4)}, InputError, ("num_beams", "not supported")),
    "several sequences": (
        {"generation_config": GenerationConfig(num_return_sequences=2, do_sample=True)},
        InputError,
        ("num_return_sequences", "not supported"),
    ),
    "prefix out of the vocabulary": ({"prefix": [5, 999]}, InputError, ("expected ids from 0 to 258", "got 5 to 999")),
}


@pytest.mark.parametrize("method", ["ask", "stream"])
@pytest.mark.parametrize("case", CALLS)
def test_calls(untouched: GraphKV, case: str, method: str) -> None:
    options, kind, words = CALLS[case]
    with refused(kind, *words):
        getattr(untouched, method)([A, B], "Why?", **options)


def test_cycle_in_topological_mode(untouched: GraphKV) -> None:
    loop = [{**A, "sources": ["b"]}, B]
    with refused(GraphError, "the graph has a cycle (", "a", " → ", "rounds=1"):
        untouched.ask(loop, "Why?", rounds="topological")
    with refused(GraphError, "cycle (a → a)"):
        untouched.plan([{**A, "sources": ["a"]}], rounds="topological")
    assert untouched.plan(loop, "Why?", rounds=2).total_tokens > 0


def test_half_of_the_scores(untouched: GraphKV) -> None:
    with refused(GraphError, "'b' has no score but others do"):
        untouched.ask([{**A, "score": 1.0}, B], "Why?", layout="graph_topk")


def test_questions(untouched: GraphKV) -> None:
    for question in ("", " \n "):
        with refused(InputError, "the question is empty"):
            untouched.ask([A], question)
    with refused(InputError, "expected a list of at least one question"):
        untouched.ask_many([A], "Why?")
    with refused(InputError, "expected a list of at least one continuation"):
        untouched.score([A], "Why?", "yes")
    with refused(InputError, "continuations of at least one token"):
        untouched.score([A], "Why?", ["yes", ""])
    with refused(InputError, "the question is empty: logits need at least one token"):
        untouched.logits([A], "")


def test_ids_out_of_the_vocabulary(untouched: GraphKV) -> None:
    with refused(InputError, "segment 'a'", "expected ids from 0 to 258", "got 3 to 259"):
        untouched.logits(SegmentGraph.from_segments([Segment.from_tokens("a", [3, 259])]), [1])
    with refused(InputError, "expected ids from 0 to 258", "got -1 to 4"):
        untouched.logits([A], torch.tensor([4, -1]))
    with refused(InputError, "got 300 to 300"):
        untouched.score([A], "Why?", [[300]])


def test_kernels(untouched: GraphKV) -> None:
    model = untouched.model.model
    with refused(KernelError, "unknown kernel 'dens'; valid: dense, flex, gather, varlen"):
        GraphKV.from_pretrained((model, byte_tokenizer()), kernel="dens")
    with refused(KernelError, "'dens'", "dense", "flex", "gather", "varlen"):
        untouched.logits([A], "Q", packed=True, impl="dens")
    for name, reason in available_kernels().items():
        if reason is not None:
            with refused(KernelError, f"{name!r} cannot run here", reason):
                untouched.logits([A], "Q", packed=True, impl=name)
            with refused(KernelError, f"{name!r} cannot run here", reason):
                GraphKV.from_pretrained((model, byte_tokenizer()), kernel=name)
        elif name in ("flex", "varlen"):
            with refused(KernelError, f"{name!r} does not weigh contexts", "'dense'", "'gather'"):
                untouched.logits([A], "Q", layout="ape", packed=True, impl=name)
    with refused(InputError, "impl chooses the kernel of one packed forward"):
        untouched.logits([A], "Q", impl="dense")
    with refused(LayoutError, "'graph_sequential' moves keys between its phases", "packed forward"):
        untouched.logits([A, B], "Q", layout="graph_sequential", packed=True)


def test_an_error_inside_the_model_leaves_it_as_it_was(untouched: GraphKV, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second layer fails while blocks are encoded: no hook stays, the attention is the old one, the store has nothing half-made."""

    def fail(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patched:
        patched.setattr(untouched.model.model.model.layers[1].mlp, "forward", fail)
        for call in (lambda: untouched.ask([A, B], "Why?"), lambda: untouched.logits([A], "Q", packed=True), lambda: untouched.encode([A])):
            with pytest.raises(RuntimeError, match="out of memory"):
                call()
    assert torch.isfinite(untouched.logits([A], "Q")).all()
    untouched.store.clear()


def test_an_error_while_answering_leaves_the_store_whole(untouched: GraphKV, monkeypatch: pytest.MonkeyPatch) -> None:
    computed = untouched.encode([A, B], layout="ape").tokens_computed

    def fail(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patched:
        patched.setattr(untouched.model.model.lm_head, "forward", fail)
        with pytest.raises(RuntimeError, match="out of memory"):
            untouched.ask([A, B], "Why?", layout="ape")
        with pytest.raises(RuntimeError, match="out of memory"):
            list(untouched.stream([A, B], "Why?", layout="ape"))
    again = untouched.encode([A, B], layout="ape")
    assert (again.tokens_reused, again.tokens_computed) == (computed, 0)
    untouched.store.clear()


# Lengths.


def test_lengths() -> None:
    engine = tiny_engine(max_position_embeddings=64)
    calls: list[tuple[Callable[[], Any], tuple[str, ...]]] = [
        (lambda: engine.logits(random_graph({"a": 65}, []), [1]), ("segment 'a' has 65 tokens", "window is 64", "max_segment_tokens")),
        (lambda: engine.logits(random_graph({"a": 5}, []), [1], prefix=random_ids(65)), ("the prefix has 65 tokens",)),
        (lambda: engine.logits(random_graph({"a": 40, "b": 40}, []), [1], layout="block"), ("'block' needs 80 positions", "shared-position")),
        (lambda: engine.logits(random_graph({"a": 60}, []), random_ids(5)), ("question has 5 tokens", "only 4 of the model's 64")),
        (lambda: engine.logits(random_graph({"a": 60}, []), random_ids(65)), ("the question has 65 tokens",)),
        (lambda: engine.score(random_graph({"a": 60}, []), [1], [[1] * 4], raw=True), ("only 4 of the model's 64",)),
        (lambda: engine.ask([A], "x" * 40), ("the question has", "of the model's 64 positions are left")),
        (lambda: engine.ask(random_graph({"a": 64 - 19}, []), "x"), ("no room for an answer",)),
    ]
    for call, words in calls:
        with refused(LengthError, *words):
            call()
    assert len(engine.store) == 0
    assert engine.logits(random_graph({"a": 60}, []), random_ids(4)).shape == (4, 259)
    assert len(engine.score(random_graph({"a": 60}, []), [1], [[1] * 3], raw=True)) == 1


def test_sliding_window_shorter_than_the_layout() -> None:
    """It works as long as everything fits, and then equals the same weights without a window."""
    engine, free = tiny_engine("mistral", sliding_window=16), tiny_engine("mistral")
    small, large = random_graph({"a": 5, "b": 5}, []), random_graph({"a": 9, "b": 5}, [])
    assert torch.allclose(engine.logits(small, random_ids(6)), free.logits(small, random_ids(6)), atol=1e-5)
    for call in (lambda: engine.logits(large, random_ids(6)), lambda: engine.logits(small, random_ids(7)), lambda: engine.ask(small, "Why?")):
        with refused(LengthError, "sliding window of 16 tokens is shorter than the layout (", "not supported yet"):
            call()
    with refused(LengthError, "sliding window of 16"):  # the answer would leave the window
        engine.stream(random_graph({"a": 1}, []), [1], max_new_tokens=15)  # type: ignore[arg-type]


# Models.


def test_models_that_cannot_be_served() -> None:
    gpt2 = AutoModelForCausalLM.from_config(GPT2Config(vocab_size=259, n_embd=32, n_layer=2, n_head=2, n_positions=64))
    with refused(UnsupportedModelError, "'gpt2' has no rotary position embedding (rope)"):
        GraphKV.from_pretrained((gpt2, byte_tokenizer()))
    with refused(UnsupportedModelError, "'t5' is an encoder-decoder model"):
        check_config(T5Config())
    with refused(UnsupportedModelError, "'deepseek_v3' uses multi-head latent attention (MLA)"):
        check_config(DeepseekV3Config())


@pytest.mark.parametrize("rope_type", ["dynamic", "longrope"])
def test_rope_types_that_cannot_be_moved(rope_type: str) -> None:
    factors = {"long_factor": [2.0] * 8, "short_factor": [1.0] * 8} if rope_type == "longrope" else {}
    rope = {"rope_type": rope_type, "factor": 2.0, "rope_theta": 10000.0, "original_max_position_embeddings": 64, **factors}
    model = tiny_model("llama", rope_parameters=rope)
    with refused(UnsupportedModelError, f"'llama' has rope type '{rope_type}'", "movable: default, linear, llama3, yarn"):
        GraphKV.from_pretrained((model, byte_tokenizer()))


def test_rope_frequencies_that_were_cast() -> None:
    with refused(UnsupportedModelError, "rope frequencies were cast to torch.bfloat16", "load with dtype="):
        GraphKV.from_pretrained((tiny_model().to(torch.bfloat16), byte_tokenizer()))


def test_model_folders(tmp_path: Path) -> None:
    for missing in (tmp_path / "nowhere", str(tmp_path / "nowhere"), "./nowhere", "~/nowhere/at/all"):
        with refused(ModelError, "no such model folder", "nowhere", "config.json"):
            GraphKV.from_pretrained(missing)
    with refused(ModelError, "is not a model folder", "config.json"):
        GraphKV.from_pretrained(tmp_path)
    with refused(InputError, "expected a pair (model, tokenizer), got 3 things"):
        GraphKV.from_pretrained((1, 2, 3))  # type: ignore[arg-type]
    with refused(KernelError, "unknown kernel 'x'"):  # before the model is looked for
        GraphKV.from_pretrained(tmp_path / "nowhere", kernel="x")
