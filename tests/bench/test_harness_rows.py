"""Rows with documents for lm_eval's model ``graphkv``: equal documents are read once, bad rows are named, settings that do not go together are refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from helpers import byte_tokenizer, tiny_engine, tiny_model

pytest.importorskip("lm_eval", reason="lm_eval is not installed (graphkv[bench])")

from lm_eval.api.instance import Instance
from lm_eval.api.model import CachingLM
from lm_eval.api.registry import get_model
from tokenizers.processors import TemplateProcessing

from graphkv import GraphKV
from graphkv.errors import DocumentError, GraphError, InputError, LayoutError, LengthError
from graphkv_benchmarks.harness.lm import GraphKVLM
from graphkv_benchmarks.harness.rows import RowGraphs

A, B = {"id": "a", "text": "It rains in the hills."}, {"id": "b", "text": "So the river is high."}
SETTINGS = {"until": ["e"], "max_gen_toks": 5}


def request(kind: str, arguments: tuple[Any, ...], row: Any = None, id: int = 0) -> Instance:
    return Instance(kind, row or {}, arguments, 0, ("weather", id, 1))


def score(row: Any, question: str = "Wet?", answer: str = " yes", id: int = 0) -> Instance:
    return request("loglikelihood", (question, answer), row, id)


def test_forms_of_a_graph() -> None:
    graphs = RowGraphs()
    listed = graphs.of({"documents": [{**B, "sources": ["a"], "cites": None, "title": None}, {**A, "sources": None}], "edges": None})
    pairs = graphs.of({"documents": [B, A], "edges": [["a", "b"]]})
    nodes = [{**B, "title": None}, A]
    link = graphs.of({"graph": {"directed": True, "nodes": nodes, "links": [{"source": "a", "target": "b"}]}})
    text = graphs.of({"graph": json.dumps({"directed": True, "nodes": nodes, "edges": [{"source": "a", "target": "b"}]})})
    both = graphs.of({"graph": {"directed": False, "nodes": nodes, "edges": [{"source": "a", "target": "b"}]}})
    assert all(graph is not None and graph.ids == ("b", "a") and graph.edges == (("a", "b"),) for graph in (listed, pairs, link, text))
    assert both is not None and set(both.edges) == {("a", "b"), ("b", "a")}
    more = graphs.of({"documents": [{**B, "sources": ["a"]}, A], "edges": [["b", "a"]]})
    assert more is not None and set(more.edges) == {("a", "b"), ("b", "a")}
    assert graphs.of({"documents": [B, A], "edges": [["a", "b"]]}) is pairs and graphs.of({"documents": [A, B], "edges": [["a", "b"]]}) is not pairs
    assert graphs.of({"edges": [], "question": "?"}) is None is graphs.of({"documents": None, "edges": None})
    assert RowGraphs(documents_key=None).of({"documents": "a column of something else", "edges": [["a", "b"]]}) is None
    assert RowGraphs(edges_key=None).of({"edges": [["a", "b"]]}) is None
    other = RowGraphs("passages", "links").of({"passages": [A, B], "links": [["a", "b"]], "documents": 1})
    assert other is not None and len(other.edges) == 1


@pytest.mark.parametrize(
    ("row", "error", "words"),
    [
        ({"documents": "some text"}, DocumentError, "list of documents under 'documents'"),
        ({"documents": []}, DocumentError, "'documents' is empty"),
        ({"documents": ["some text"]}, DocumentError, "document 0: expected an object"),
        ({"documents": [{"id": "a"}]}, DocumentError, "missing text"),
        ({"documents": [A, A]}, DocumentError, "duplicate id 'a'"),
        ({"documents": [A, B], "edges": [["a", "zz"]]}, GraphError, "unknown source id 'zz'"),
        ({"documents": [A, B], "edges": [["a"]]}, GraphError, r"pair \[source id, target id\]"),
        ({"documents": [A, B], "edges": "a-b"}, DocumentError, "under 'edges'"),
        ({"documents": [{**A, "sources": ["zz"]}]}, GraphError, "unknown source id 'zz'"),
        ({"documents": [A], "graph": {"nodes": [A], "edges": []}}, DocumentError, "both 'documents' and 'graph'"),
        ({"graph": {"nodes": [A]}}, DocumentError, "node-link JSON under 'graph'"),
        ({"graph": "{not json"}, DocumentError, "node-link JSON under 'graph'"),
        ({"graph": {"nodes": [A], "edges": []}}, DocumentError, "'directed' must be true or false"),
        ({"edges": [["a", "b"]]}, DocumentError, "edges under 'edges' without documents: there is nothing under 'documents' or 'graph'; name the keys"),
        ({"graph": {"directed": True, "nodes": [A], "edges": []}, "edges": [["a", "b"]]}, DocumentError, "edges under 'edges' in addition to a graph"),
    ],
)
def test_a_bad_row_is_named(row: Any, error: type[Exception], words: str) -> None:
    lm = GraphKVLM(tiny_engine())
    with pytest.raises(error, match=f"^task weather, row 7: .*{words}"):
        lm.loglikelihood([score({}, id=0), score(row, id=7)], True)
    with pytest.raises(error, match=f"^task weather, row 7: .*{words}"):
        lm.generate_until([request("generate_until", ("Wet?", SETTINGS), row, 7)], True)


def test_what_does_not_fit_is_named_before_anything_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = GraphKVLM(tiny_engine(max_position_embeddings=128))
    monkeypatch.setattr(GraphKV, "_encode", lambda *a, **k: pytest.fail("read"))
    rows = {"documents": [A, B]}
    with pytest.raises(LengthError, match=r"^task weather, row 3: the question has \d+ tokens"):
        lm.loglikelihood([score(rows), score(rows, question="long " * 40, id=3)], True)
    with pytest.raises(LengthError, match=r"^task weather, row 3: "):
        lm.loglikelihood([score(rows), score(rows, answer="long " * 40, id=3)], True)
    with pytest.raises(LengthError, match=r"^task weather, row 3: "):
        lm.generate_until([request("generate_until", (q, SETTINGS), rows, n) for n, q in ((0, "Wet?"), (3, "long " * 40))], True)
    with pytest.raises(LengthError, match=r"^task weather, row 4: segment 'a'"):
        lm.loglikelihood([score({"documents": [{"id": "a", "text": "x" * 200}]}, id=4)], True)
    with pytest.raises(LengthError, match=r"^task weather, row 5: the continuation has 129 tokens, the model's window is 128"):
        lm.loglikelihood([score(rows), score({}, answer=" " + "y" * 128, id=5)], True)


def ask(question: str, longest: int, row: Any, id: int) -> Instance:
    return request("generate_until", (question, {"until": [], "max_gen_toks": longest}), row, id)


def test_an_answer_is_never_shortened(monkeypatch: pytest.MonkeyPatch) -> None:
    """What max_gen_toks asks for has room, or nothing is read at all: also where other rows ask for less."""
    lm, rows = GraphKVLM(tiny_engine(max_position_embeddings=128)), {"documents": [A, B]}
    with monkeypatch.context() as patch:
        patch.setattr(GraphKV, "_encode", lambda *a, **k: pytest.fail("read"))
        with pytest.raises(LengthError, match=r"^task weather, row 3: the answer may have 100 tokens \(max_gen_toks\), but behind documents and question only ") as error:
            lm.generate_until([ask("Wet?", 5, rows, 0), ask("Wet?", 100, rows, 3)], True)
        with pytest.raises(LengthError, match=r"^task weather, row 5: max_gen_toks is 128, the model's window 128"):
            lm.generate_until([ask("Wet?", 5, rows, 0), ask("Wet?", 128, {}, 5)], True)
    left = int(str(error.value).partition("only ")[2].split()[0])
    given: list[int] = []
    ask_many = GraphKV.ask_many
    monkeypatch.setattr(GraphKV, "ask_many", lambda self, *a, **k: (found := ask_many(self, *a, **k), given.extend(len(x.token_ids) for x in found))[0])
    lm.generate_until([ask("Wet?", left, rows, 0)], True)
    assert given == [left]
    with pytest.raises(LengthError, match=f"may have {left + 1} tokens .* only {left} of the model's 128"):
        lm.generate_until([ask("Wet?", left + 1, rows, 0)], True)


def test_the_row_at_fault_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows over the same documents are answered together; of full_context all is known before, of others what question and answer need."""
    rows, long = {"documents": [A, B]}, "long " * 30
    asked = [ask("Wet?", 5, rows, 0), ask(long, 5, rows, 3), ask("High?", 5, rows, 4)]
    with monkeypatch.context() as patch:
        patch.setattr(GraphKV, "ask_many", lambda *a, **k: pytest.fail("read"))
        full = GraphKVLM(tiny_engine(max_position_embeddings=192), strategy="full_context")
        with pytest.raises(LengthError, match=r"^task weather, row 3: the question has "):
            full.generate_until(asked, True)
        with pytest.raises(LengthError, match=r"^task weather, row 4: the answer may have 150 tokens"):
            full.generate_until([*asked[:1], ask("High?", 150, rows, 4)], True)
        with pytest.raises(LengthError, match=r"^task weather, row 3: the answer may have 5 tokens \(max_gen_toks\), but behind prefix and question only 0"):
            GraphKVLM(tiny_engine(max_position_embeddings=128), strategy="infini_retri", window=16).generate_until(asked, True)
    windowed = GraphKVLM(tiny_engine(max_position_embeddings=256), strategy="infini_retri", window=88)
    with pytest.raises(LengthError, match=r"^task weather, row 3: window=88 does not fit"):
        windowed.generate_until(asked, True)


def test_an_answer_that_a_strategy_cuts_is_an_error() -> None:
    """What infini_retri keeps is known only when it has read: 300 tokens of text, of which it keeps what the window has room for."""
    long = {"documents": [{"id": "a", "text": "It rains in the hills. " * 20}]}
    lm = GraphKVLM(tiny_engine(max_position_embeddings=320), strategy="infini_retri", window=32)
    with pytest.raises(LengthError, match=r"^task weather, row 3: the answer was cut after \d+ of 150 tokens \(max_gen_toks\): what strategy 'infini_retri' keeps"):
        lm.generate_until([ask("Wet?", 150, long, 3)], True)
    assert len(lm.generate_until([ask("Wet?", 5, long, 3)], True)) == 1


def test_the_empty_is_named() -> None:
    lm = GraphKVLM(tiny_engine())
    with pytest.raises(InputError, match=r"row 2: the question .* is empty"):
        lm.loglikelihood([score({"documents": [A]}, question=" ", id=2)], True)
    with pytest.raises(InputError, match="row 2: the continuation is '  '"):
        lm.loglikelihood([score({"documents": [A]}, answer="  ", id=2)], True)
    for question in ("Wet?", ""):
        with pytest.raises(InputError, match="row 2: the continuation has no tokens"):
            lm.loglikelihood([score({}, question=question, answer="", id=2)], True)
    with pytest.raises(InputError, match="row 2: the prompt is empty"):
        lm.generate_until([request("generate_until", ("", SETTINGS), {}, 2)], True)


def test_equal_documents_are_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five questions of six rows over two graphs, with rows without documents between them: two contexts are computed, and the order is kept."""
    lm = GraphKVLM(tiny_engine(), batch_size=2)
    computed: list[int] = []
    encode = GraphKV._encode
    monkeypatch.setattr(GraphKV, "_encode", lambda self, *a, **k: (e := encode(self, *a, **k), computed.append(e.tokens_computed))[0])
    first, second = {"documents": [A, B], "edges": [["a", "b"]]}, {"documents": [{"id": "c", "text": "It snows."}]}
    again = {"documents": [dict(A), dict(B)], "edges": [["a", "b"]]}
    asked = [(dict(first), "Wet?"), ({}, "Plain?"), (second, "Wet?"), (dict(first), "High?"), (again, "Wet?"), (first, "Low?")]
    requests = [score(row, question, answer, n) for n, (row, question) in enumerate(asked) for answer in (" yes", " no", " perhaps")]
    together = lm.loglikelihood(requests, True)
    assert len(computed) == 4 and sum(n > 0 for n in computed) == 2  # four questions over documents: (first, Wet? High? Low?) and (second, Wet?)
    assert together == [(pytest.approx(value, abs=1e-4), greedy) for r in requests for value, greedy in lm.loglikelihood([r], True)]

    computed.clear()
    ask = [request("generate_until", (question, dict(SETTINGS)), row, n) for n, (row, question) in enumerate(asked)]
    texts = lm.generate_until(ask, True)
    assert computed == [0, 0]  # one call a graph, and everything is in the store
    assert texts == [lm.generate_until([r], True)[0] for r in ask] and len(set(texts)) > 1


def test_settings_that_differ_are_decoded_apart() -> None:
    lm = GraphKVLM(tiny_engine())
    asked = [request("generate_until", ("Wet?", {"until": [], "max_gen_toks": n}), {"documents": [A]}, n) for n in (3, 9, 3)]
    texts = lm.generate_until(asked, True)
    assert texts[0] == texts[2] and texts[1].startswith(texts[0].rstrip("\ufffd")) and len(texts[1]) > len(texts[0])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"best_of": 3}, "unknown generation setting 'best_of'; valid: .*until"),
        ({"num_beams": 4}, "num_beams not supported"),
        ({"until": 3}, "until must be a string or a list of strings"),
        ({"max_gen_toks": 0}, "max_gen_toks"),
        ({"temperature": -1}, "temperature must be a number of at least 0"),
        ({"do_sample": True, "temperature": 0.0}, "contradiction"),
        ({"do_sample": "no"}, "do_sample must be true or false"),
    ],
)
def test_generation_settings_that_cannot_be_honoured(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=f"^task weather, row 5: .*{words}"):
        GraphKVLM(tiny_engine()).generate_until([request("generate_until", ("Wet?", settings), {}, 5)], True)


@pytest.mark.parametrize("row", [{}, {"documents": [A, B]}])
def test_sampling_where_it_is_asked_for(row: dict[str, Any]) -> None:
    import torch

    lm = GraphKVLM(tiny_engine())
    ask = [request("generate_until", ("Wet?", {"until": [], "max_gen_toks": 20, "temperature": 2.0, "num_beams": 1}), row)]
    torch.manual_seed(1)
    drawn = lm.generate_until(ask * 2, True)
    assert drawn[0] != drawn[1]
    ask[0].arguments[1]["do_sample"] = False
    assert len(set(lm.generate_until(ask * 2, True))) == 1


def test_a_prompt_that_leaves_no_room_for_the_answer() -> None:
    with pytest.raises(LengthError, match="max_gen_toks is 64, the model's window 64"):
        GraphKVLM(tiny_engine(max_position_embeddings=64)).generate_until([request("generate_until", ("Wet?", {"max_gen_toks": 64}))], True)


def test_what_does_not_go_together() -> None:
    row = {"documents": [A, B]}
    template = "{% for m in messages %}{{ m['content'] }}\n{% endfor %}>"
    lm = GraphKVLM((tiny_model(), byte_tokenizer(template)))
    assert lm.apply_chat_template([{"role": "user", "content": "Wet?"}]) == "Wet?\n>"
    rendered = score(row, question="Wet?\n>")
    for _ in range(2):
        lm.loglikelihood([score({})], True)
        with pytest.raises(InputError, match=r"row 0: .*without apply_chat_template, or with raw=true"):
            lm.loglikelihood([rendered], True)
        with pytest.raises(InputError, match=r"row 0: .*without apply_chat_template, or with raw=true"):
            lm.generate_until([request("generate_until", ("Wet?\n>", SETTINGS), row)], True)
        assert len(lm.loglikelihood([score(row)], True)) == 1  # another evaluation with the same model, without the chat template
    raw = GraphKVLM((tiny_model(), byte_tokenizer(template)), raw=True)
    raw.apply_chat_template([{"role": "user", "content": "Wet?"}])
    assert len(raw.loglikelihood([rendered], True)) == 1
    with pytest.raises(InputError, match="row 0: a whole text is scored without documents"):
        lm.loglikelihood_rolling([request("loglikelihood_rolling", ("text",), row)], True)
    with pytest.raises(InputError, match="chat template"):
        GraphKVLM(tiny_engine()).apply_chat_template([{"role": "user", "content": "Wet?"}])
    full = GraphKVLM(tiny_engine(), strategy="full_context")
    assert len(full.generate_until([request("generate_until", ("Wet?", SETTINGS), row)], True)) == 1
    with pytest.raises(InputError, match="row 0: strategy 'full_context' generates answers and has no log-likelihoods"):
        full.loglikelihood([score(row)], True)


def test_the_cache_of_responses(tmp_path: Any) -> None:
    """lm_eval keeps what was answered to a text and looks there before the model is asked, so that it would give rows over other documents the same."""
    place = str(tmp_path / "cache.db")
    alone = GraphKVLM(tiny_engine(), documents_key=None, graph_key=None)
    cached = CachingLM(alone, place)
    once = cached.loglikelihood([score({})])
    alone.engine.model.answer_logits = None  # type: ignore[method-assign, assignment]  # the second time nothing is computed
    assert cached.loglikelihood([score({})]) == once == cached.loglikelihood([score({"documents": [A]})])  # a hit: documents are switched off
    for keys in ({}, {"documents_key": None}, {"graph_key": None}):
        with pytest.raises(InputError, match=r"lm_eval's cache of responses \(use_cache\) knows requests by their text only"):
            CachingLM(GraphKVLM(tiny_engine(), **keys), place)


def test_a_tokenizer_that_ends_texts_itself() -> None:
    """In raw mode only what it puts in front of a text stands in front of the documents: the numbers are those of a tokenizer without the end."""

    def lm(single: str) -> GraphKVLM:
        tokenizer = byte_tokenizer()
        tokenizer._tokenizer.post_processor = TemplateProcessing(single=single, special_tokens=[("<s>", 256), ("</s>", 257)])
        return GraphKVLM((tiny_model(), tokenizer), layout="sequential", raw=True)

    for both, front, opening in (("<s> $A </s>", "<s> $A", (256,)), ("$A </s>", "$A", ())):
        ended, plain = lm(both), lm(front)
        assert ended.reading.opening == plain.reading.opening == opening
        asked = [score({"documents": [A, B]}, answer=answer) for answer in (" yes", " no")]
        assert ended.loglikelihood(asked, True) == plain.loglikelihood(asked, True)


def test_arguments(model: str) -> None:
    given = f"pretrained={model},layout=graph,rounds=2,view=final,raw=true,graph_key=none,max_gen_toks=7"
    lm = get_model("graphkv").create_from_arg_string(given, {"batch_size": "4", "device": "cpu"})
    assert lm.reading.options == {"rounds": 2, "view": "final"} and lm.reading.raw and lm.batch_size == 4 and lm.max_gen_toks == 7 and lm.rows.graph_key is None
    assert (lm.rank, lm.world_size, lm.max_length, lm.eot_token_id) == (0, 1, 8192, 257) and lm.tokenizer_name
    json.dumps(lm.get_model_info())
    assert get_model("graphkv").create_from_arg_obj({}, {"batch_size": 1}).engine.model.name == "embedded"
    for arguments, error, words in (
        ("layout=grpah", LayoutError, "unknown layout 'grpah'"),
        ("layout=block,rounds=2", LayoutError, "rounds"),
        ("prefix=x", InputError, "prefix is no option"),
        ("strategy=nosuch", InputError, "unknown strategy"),
        ("strategy=full_context,rounds=2", InputError, "option of strategy"),
        ("strategy=full_context,layout=graph", InputError, "layout is for strategy 'graph'"),
        ("strategy=full_context,raw=true", InputError, "raw is for strategy 'graph'"),
        ("batch_size=auto", InputError, "batch_size must be a whole number"),
        ("batch_size=0", InputError, "batch_size"),
        ("raw=perhaps", InputError, "raw must be true or false"),
        ("dtype=float12", InputError, "unknown dtype 'float12'"),
    ):
        with pytest.raises(error, match=words):
            get_model("graphkv").create_from_arg_string(arguments)
    for made in (tiny_engine(), (tiny_model(), byte_tokenizer())):
        for name, value in (("dtype", "float32"), ("device", "cpu"), ("trust_remote_code", True)):
            with pytest.raises(InputError, match=f"^{name} cannot be set on an? (engine|model) that is there already"):
                GraphKVLM(made, **{name: value})
    with pytest.raises(InputError, match=r"^max_segment_tokens, store cannot be set on an engine"):
        GraphKVLM(tiny_engine(), store="memory", max_segment_tokens=9)
