"""What every strategy does, whichever it is: the conformance suite. A strategy that is installed is tested by being installed."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import EntryPoint
from typing import Any

import pytest
import torch
from helpers import byte_tokenizer, landmark_engine, tiny_engine

import graphkv.strategies
from graphkv import Answer, GraphKV, InputError, LengthError, Segment, SegmentGraph, Strategy, find_strategy, strategy_names

DOCUMENTS = [
    {"id": "a", "title": "Night Maple", "text": "It was written by Ada Lund. It has a score of 17."},
    {"id": "b", "title": "Red Oak", "text": "It builds on Night Maple. The lab of it is Norlab.", "sources": ["a"]},
    {"id": "c", "text": "Nothing of this matters. It is here all the same."},
]
QUESTIONS = ["Who wrote Night Maple?", "Which lab?", "What is the score of the paper that Red Oak builds on?"]


@pytest.fixture(params=strategy_names())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def engine(name: str) -> GraphKV:
    """A tiny random model that the strategy can work with."""
    return landmark_engine() if name == "landmark" else tiny_engine()


def test_the_four_are_there() -> None:
    assert strategy_names()[0] == "graph"
    assert {"graph", "full_context", "infini_retri", "landmark"} <= set(strategy_names())


def test_an_answer_says_what_was_done(engine: GraphKV, name: str) -> None:
    answer = engine.ask(DOCUMENTS, QUESTIONS[0], strategy=name, max_new_tokens=5)
    assert isinstance(answer, Answer) and answer.strategy == name
    assert answer.query_aware is (name != "graph" and find_strategy(name).query_aware)
    assert answer.text == answer.text.strip() and 0 < answer.tokens_generated <= 5 and answer.finish_reason in ("stop", "length")
    assert answer.tokens_read > 0 and answer.tokens_kept > 0 and answer.tokens_computed > 0
    assert answer.segments and len({use.id for use in answer.segments}) == len(answer.segments)
    assert {use.id for use in answer.segments} <= {"a", "b", "c"} and all(use.tokens > 0 for use in answer.segments)
    t = answer.timings
    assert 0 < t.first_token <= t.total and min(t.plan, t.encode, t.assemble) >= 0


def test_many_questions_are_answered_as_one_by_one(engine: GraphKV, name: str) -> None:
    together = engine.ask_many(DOCUMENTS, QUESTIONS, strategy=name, max_new_tokens=6)
    batches = engine.ask_many(DOCUMENTS, QUESTIONS, strategy=name, max_new_tokens=6, batch_size=2)
    alone = [engine.ask(DOCUMENTS, question, strategy=name, max_new_tokens=6) for question in QUESTIONS]
    assert [a.token_ids for a in together] == [a.token_ids for a in alone] == [a.token_ids for a in batches]
    assert [[use.id for use in a.segments] for a in together] == [[use.id for use in a.segments] for a in alone]


def test_documents_and_a_graph_are_the_same(engine: GraphKV, name: str) -> None:
    graph = SegmentGraph.from_documents(DOCUMENTS)
    before = (graph.ids, list(graph.edges))
    assert engine.ask(graph, QUESTIONS[0], strategy=name, max_new_tokens=4).token_ids == engine.ask(DOCUMENTS, QUESTIONS[0], strategy=name, max_new_tokens=4).token_ids
    assert (graph.ids, list(graph.edges)) == before


def test_segments_of_token_ids(engine: GraphKV, name: str) -> None:
    graph = SegmentGraph.from_segments([Segment.from_tokens("x", list(b"It was written by Ada.")), Segment.from_tokens("y", list(b" It has a score."))], [("x", "y")])
    answer = engine.ask(graph, "Who?", strategy=name, max_new_tokens=3)
    assert {use.id for use in answer.segments} <= {"x", "y"} and answer.tokens_kept > 0


def test_what_is_asked_for_is_honoured(engine: GraphKV, name: str) -> None:
    free = engine.ask(DOCUMENTS, QUESTIONS[0], strategy=name, max_new_tokens=12)
    assert engine.ask(DOCUMENTS, QUESTIONS[0], strategy=name, max_new_tokens=1).token_ids == free.token_ids[:1]
    stop = next((c for c in free.text[1:] if c.isprintable() and not c.isspace() and c != "\ufffd"), None)
    if stop is not None:
        stopped = engine.ask(DOCUMENTS, QUESTIONS[0], strategy=name, max_new_tokens=12, stop=stop)
        assert stopped.finish_reason == "stop" and stop not in stopped.text and free.text.startswith(stopped.text)
    # Other words before the documents, and before the answer, are read: with random weights they lead elsewhere.
    ways: list[dict[str, Any]] = [{}, {"prefix": "Be brief. " * 3}, {"answer_prefix": "The answer is: "}]
    assert len({engine.ask(DOCUMENTS, QUESTIONS[0], strategy=name, max_new_tokens=12, **way).token_ids for way in ways}) == len(ways)


def test_the_same_twice_and_nothing_left_behind(engine: GraphKV, name: str) -> None:
    model = engine.model.model
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    implementation, hooks = model.config._attn_implementation, _hooks(model)
    plain = model(torch.tensor([[5, 6, 7]])).logits
    answers = [engine.ask(DOCUMENTS, QUESTIONS[1], strategy=name, max_new_tokens=6) for _ in range(2)]
    assert answers[0].token_ids == answers[1].token_ids
    assert model.config._attn_implementation == implementation and _hooks(model) == hooks
    assert all(torch.equal(weights[key], value) for key, value in model.state_dict().items())
    assert torch.equal(model(torch.tensor([[5, 6, 7]])).logits, plain)


def test_an_error_in_the_middle_leaves_the_model_as_it_was(engine: GraphKV, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = engine.model.model
    implementation, hooks = model.config._attn_implementation, _hooks(model)
    broken = model.get_decoder().layers[0].mlp

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(broken, "forward", fail)
        with pytest.raises(RuntimeError, match="power cut"):
            engine.ask(DOCUMENTS, QUESTIONS[0], strategy=name)
    assert model.config._attn_implementation == implementation and _hooks(model) == hooks
    assert engine.ask(DOCUMENTS, QUESTIONS[0], strategy=name, max_new_tokens=2).tokens_generated > 0


def _hooks(model: Any) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


@pytest.mark.parametrize(
    ("documents", "questions", "options", "error"),
    [
        ([], QUESTIONS[:1], {}, InputError),
        (DOCUMENTS, [], {}, InputError),
        (DOCUMENTS, "Who?", {}, InputError),
        (DOCUMENTS, [""], {}, InputError),
        (DOCUMENTS, ["Who? " * 4000], {}, LengthError),
        (DOCUMENTS, QUESTIONS[:1], {"max_new_tokens": 0}, InputError),
        (DOCUMENTS, QUESTIONS[:1], {"batch_size": 0}, InputError),
        (DOCUMENTS, QUESTIONS[:1], {"stop": [""]}, InputError),
        (DOCUMENTS, QUESTIONS[:1], {"answer_prefix": 3}, InputError),
        (DOCUMENTS, QUESTIONS[:1], {"colour": "red"}, InputError),
    ],
)  # fmt: skip
def test_bad_input_is_refused_before_any_work(engine: GraphKV, name: str, documents: Any, questions: Any, options: dict[str, Any], error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def worked(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("the model ran")

    monkeypatch.setattr(type(engine.model.model), "forward", worked)
    with pytest.raises(error) as caught:
        engine.ask_many(documents, questions, strategy=name, **options)
    assert "\n" not in str(caught.value)


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match="unknown strategy 'magic'; valid: full_context, graph, infini_retri, landmark"):
        tiny_engine().ask(DOCUMENTS, "Who?", strategy="magic")
    with pytest.raises(InputError, match="unknown option of strategy 'full_context': 'window'; valid: none"):
        tiny_engine().ask(DOCUMENTS, "Who?", strategy="full_context", window=3)
    with pytest.raises(InputError, match="strategy 'graph' is the engine's own chain, not an object"):
        find_strategy("graph")


def test_a_stream_begins_the_answer_with_the_same_words() -> None:
    engine = tiny_engine()
    whole = engine.ask(DOCUMENTS, QUESTIONS[0], answer_prefix="The answer is: ", max_new_tokens=6)
    assert "".join(engine.stream(DOCUMENTS, QUESTIONS[0], answer_prefix="The answer is: ", max_new_tokens=6)) == whole.text
    assert whole.token_ids != engine.ask(DOCUMENTS, QUESTIONS[0], max_new_tokens=6).token_ids


def test_full_context_is_the_models_own_reading() -> None:
    """Its answer is the one of transformers' own generate over prefix, documents and question as one prompt."""
    engine = tiny_engine()
    tokens = engine.reader.read(DOCUMENTS, QUESTIONS[:1], None)
    prompt = [*tokens.prefix, *(t for ids in tokens.segments.values() for t in ids), *tokens.questions[0]]
    own = engine.model.model.generate(torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), max_new_tokens=8, do_sample=False)[0, len(prompt) :].tolist()
    answer = engine.ask(DOCUMENTS, QUESTIONS[0], strategy="full_context", max_new_tokens=8)
    assert list(answer.token_ids) == [t for t in own if t != 257]
    assert answer.tokens_read == answer.tokens_kept == sum(map(len, tokens.segments.values())) and answer.layout == "sequential"


class Shout(Strategy):
    name, query_aware, summary = "shout", True, "the first word, loudly"

    def ask_many(self, engine: Any, documents: Any, questions: Any, request: Any, *, loud: bool = True) -> list[Answer]:
        answers = engine.ask_many(documents, questions, max_new_tokens=1)
        return [replace(answer, text="HEY" if loud else "hey", strategy=self.name, query_aware=True) for answer in answers]


class NoStrategy:
    pass


def test_another_package_adds_one(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [EntryPoint("shout", f"{__name__}:Shout", "graphkv.strategies"), EntryPoint("none", "json:loads", "graphkv.strategies"), EntryPoint("gone", "no_such_package:X", "graphkv.strategies")]
    monkeypatch.setattr(graphkv.strategies, "entry_points", lambda group: points)
    monkeypatch.setitem(__import__("sys").modules, __name__, __import__("types").SimpleNamespace(Shout=Shout))
    graphkv.strategies._load.cache_clear()
    engine = GraphKV.from_pretrained((tiny_engine().model.model, byte_tokenizer()))
    assert strategy_names() == ["graph", "gone", "none", "shout"]
    assert str(engine.ask(DOCUMENTS, "Who?", strategy="shout")) == "HEY"
    assert str(engine.ask(DOCUMENTS, "Who?", strategy="shout", loud=False)) == "hey"
    with pytest.raises(InputError, match="unknown option of strategy 'shout': 'quiet'; valid: loud"):
        engine.ask(DOCUMENTS, "Who?", strategy="shout", quiet=True)
    with pytest.raises(InputError, match=r"strategy 'none' \(json:loads\) cannot be loaded"):
        engine.ask(DOCUMENTS, "Who?", strategy="none")
    with pytest.raises(InputError, match=r"strategy 'gone' .* cannot be loaded: ModuleNotFoundError"):
        engine.ask(DOCUMENTS, "Who?", strategy="gone")
