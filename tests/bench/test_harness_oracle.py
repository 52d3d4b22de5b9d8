"""lm_eval's model ``graphkv`` against lm_eval's own ``hf`` on the same weights: log-likelihoods, greedy or not, whole texts, generated texts."""

from __future__ import annotations

from typing import Any

import pytest
from helpers import byte_tokenizer, tiny_model
from tokenizers.processors import TemplateProcessing

pytest.importorskip("lm_eval", reason="lm_eval is not installed (graphkv[bench])")
pytest.importorskip("accelerate", reason="lm_eval's hf wants accelerate")

from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from graphkv import GraphKV, SegmentGraph
from graphkv_benchmarks.harness.lm import GraphKVLM

DOCUMENTS = {"documents": [{"id": "a", "text": "It rains in the hills.\n"}, {"id": "b", "text": "So the river is high.\n"}], "edges": [["a", "b"]]}
JOINED = "".join(document["text"] for document in DOCUMENTS["documents"])
PAIRS = [
    ("Hello there", " world"),
    ("Hello there", " w"),
    ("Hello there", " v"),  # shares a forward with the one before
    ("White space moves ", "on"),
    ("", "no context"),
    ("", "<s>begins with the prefix token"),
    ("<s>has its BOS", " already"),
    ("long " * 40, "tail"),  # cut on the left
    ("x" * 60, "exactly"),
    ("Hello there", " world"),
]


def request(kind: str, arguments: tuple[Any, ...], row: dict[str, Any] | None = None, id: int = 0) -> Instance:
    return Instance(kind, row or {}, arguments, 0, ("task", id, 1))


def pair_of(arch: str, bos: bool, window: int = 64) -> tuple[Any, Any]:
    tokenizer = byte_tokenizer()
    if bos:
        tokenizer._tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 256)])
    return tiny_model(arch, max_position_embeddings=window), tokenizer


def both(model: Any, tokenizer: Any, **settings: Any) -> tuple[HFLM, GraphKVLM]:
    return HFLM(pretrained=model, tokenizer=tokenizer, batch_size=3, device="cpu"), GraphKVLM((model, tokenizer), batch_size=3, **settings)


@pytest.mark.parametrize(("arch", "bos"), [("llama", False), ("llama", True), ("qwen2", False), ("gemma2", True)])
def test_without_documents_the_numbers_are_those_of_hf(arch: str, bos: bool) -> None:
    """1. HFLM; 2. our model; three kinds of requests, with contexts that are empty, end in white space, begin with BOS, or are too long."""
    hf, lm = both(*pair_of(arch, bos))
    requests = [request("loglikelihood", pair) for pair in PAIRS]
    wanted, got = hf.loglikelihood(requests, True), lm.loglikelihood(requests, True)
    assert [greedy for _, greedy in got] == [greedy for _, greedy in wanted]
    assert [value for value, _ in got] == pytest.approx([value for value, _ in wanted], abs=1e-4)

    texts = ["abc", "a line of some length, " * 9, "z" * 64, "z" * 65]
    rolling = [request("loglikelihood_rolling", (text,)) for text in texts]
    assert lm.loglikelihood_rolling(rolling, True) == pytest.approx(hf.loglikelihood_rolling(rolling, True), abs=1e-4, rel=1e-6)

    prompts = ["abc", "much too long " * 9, " with white space ", "q"]
    greedy = ({"until": [], "max_gen_toks": 9, "do_sample": False}, {"until": "ab", "max_new_tokens": 12, "temperature": 0.0})
    for settings in ({"until": ["e"], "max_gen_toks": 20}, *greedy):
        asked = [request("generate_until", (prompt, dict(settings))) for prompt in prompts]
        assert lm.generate_until(asked, True) == hf.generate_until(asked, True)


def test_what_is_generated_is_greedy() -> None:
    engine = GraphKV.from_pretrained()
    hf, lm = both(engine.model.model, engine.model.tokenizer)
    best = lm.generate_until([request("generate_until", ("Title: Comet", {"until": ["."], "max_gen_toks": 8}))], True)[0]
    requests = [request("loglikelihood", ("Title: Comet", text)) for text in (best, best + " x", " x")]
    got = lm.loglikelihood(requests, True)
    assert best.strip() and [greedy for _, greedy in got] == [True, False, False] == [greedy for _, greedy in hf.loglikelihood(requests, True)]


def test_the_embedded_model_too() -> None:
    engine = GraphKV.from_pretrained()
    hf, lm = both(engine.model.model, engine.model.tokenizer)
    pairs = (("Question: Who wrote Night Maple?\nAnswer:", " Ada Fumrel"), ("Title: Comet", " Thistle. It"), ("", "Title"))
    requests = [request("loglikelihood", pair) for pair in pairs]
    assert lm.loglikelihood(requests, True) == [(pytest.approx(value, abs=1e-4), greedy) for value, greedy in hf.loglikelihood(requests, True)]
    asked = [request("generate_until", (prompt, {"until": ["\n"], "max_gen_toks": 16})) for prompt in ("Title: Comet", "Question: Who wrote it?\nAnswer:")]
    assert lm.generate_until(asked, True) == hf.generate_until(asked, True)


@pytest.mark.parametrize("bos", [False, True])
def test_documents_read_one_after_the_other_are_one_prompt(bos: bool) -> None:
    """1. HFLM on documents and question joined; 2. raw documents under ``sequential``. The same token ids, so the same numbers."""
    hf, lm = both(*pair_of("llama", bos, 256), layout="sequential", raw=True)
    asked = [("Is it wet?", " yes"), ("Is it wet?", " no, dry"), ("Why? ", "rain")]
    wanted = hf.loglikelihood([request("loglikelihood", (JOINED + question, answer)) for question, answer in asked], True)
    got = lm.loglikelihood([request("loglikelihood", pair, DOCUMENTS) for pair in asked], True)
    assert got == [(pytest.approx(value, abs=1e-4), greedy) for value, greedy in wanted]
    settings = {"until": ["e"], "max_gen_toks": 20}
    texts = hf.generate_until([request("generate_until", (JOINED + question, settings)) for question, _ in asked], True)
    assert lm.generate_until([request("generate_until", (question, settings), DOCUMENTS) for question, _ in asked], True) == texts


def test_by_default_the_prompt_is_the_engines() -> None:
    model, tokenizer = pair_of("llama", False, 512)
    lm, engine = GraphKVLM((model, tokenizer)), GraphKV.from_pretrained((model, tokenizer))
    graph = SegmentGraph.from_documents(DOCUMENTS["documents"]).with_edges([("a", "b")])
    got = lm.loglikelihood([request("loglikelihood", ("Is it wet?", f" {answer}"), DOCUMENTS) for answer in ("yes", "no")], True)
    assert [value for value, _ in got] == pytest.approx(engine.score(graph, "Is it wet?", [" yes", " no"]), abs=1e-5)
    text = lm.generate_until([request("generate_until", ("Is it wet?", {"until": ["e"], "max_gen_toks": 9}), DOCUMENTS)], True)
    assert text == [engine.ask(graph, "Is it wet?", stop="e", max_new_tokens=9).text]
    none = lm.loglikelihood([request("loglikelihood", ("Is it wet?", " yes"), {**DOCUMENTS, "edges": None})], True)
    assert none[0][0] != pytest.approx(got[0][0], abs=1e-3)  # the edge matters


def test_penalties_of_the_checkpoint_are_applied_as_hf_applies_them() -> None:
    model, tokenizer = pair_of("llama", False, 256)
    asked = [request("generate_until", ("again and again", {"until": [], "max_gen_toks": 30}))]
    plain = GraphKVLM((model, tokenizer)).generate_until(asked, True)
    model.generation_config.repetition_penalty = 1.8
    hf, lm = both(model, tokenizer)
    assert lm.generate_until(asked, True) == hf.generate_until(asked, True) != plain
