"""The scheduler's answers against `GraphKV.ask`: the same texts whoever asks beside; questions over one context share its forwards; what was reused is counted right."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import random_graph, tiny_engine
from scheduler_helpers import DOCUMENTS, OTHERS, SECONDS, Forwards, question

from graphkv import LAYOUTS, Answer, GraphKV, SegmentGraph
from graphkv.assemble import assemble
from graphkv.chat import ChatPrompt, chat_prompt
from graphkv.cli.demo import read_demo
from graphkv.question import prepare, ready_context
from graphkv.sampling import Sampling
from graphkv.scheduler import Piece, Question, Scheduler
from graphkv.store import FileStore
from graphkv_benchmarks.citation_world import rows

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def same(ours: Answer, theirs: Answer) -> bool:
    """Whether two answers say the same and say it for the same reasons; `reused` aside, which depends on what was asked before."""
    fields = ["text", "token_ids", "finish_reason", "tokens_generated", "layout", "tokens_read", "tokens_kept"]
    used = [[(use.id, use.tokens, use.blocks, use.reads, use.score) for use in answer.segments] for answer in (ours, theirs)]
    return used[0] == used[1] and all(getattr(ours, name) == getattr(theirs, name) for name in fields)


@pytest.fixture(scope="module")
def embedded() -> GraphKV:
    return GraphKV.from_pretrained()


def fresh(engine: GraphKV, **settings: Any) -> GraphKV:
    """The same model over an empty store."""
    return GraphKV(engine.model, store="memory", template=engine.template, **settings)


def test_the_demos_answers_are_those_of_ask(embedded: GraphKV) -> None:
    graph, questions = read_demo()
    with Scheduler(fresh(embedded)) as scheduler:
        for layout in ("graph", "sequential"):
            asked = [question(embedded, graph, row["question"], layout=layout) for row in questions]
            tickets = [scheduler.submit(one) for one in asked]
            for row, ticket in zip(questions, tickets, strict=True):
                answer = ticket.future.result(SECONDS)
                assert same(answer, embedded.ask(graph, row["question"], layout=layout))
                assert layout != "graph" or answer.text.rstrip(".") == row["answer"]


def test_many_threads_at_once_get_the_answers_of_ask(embedded: GraphKV) -> None:
    """1. `ask_many`, world by world; 2. nine threads that ask for one world's questions each, in turns over three worlds, and for a stream of every third."""
    worlds = [(SegmentGraph.from_documents(row["documents"]), [q["question"] for q in row["questions"]]) for row in rows(3, 3, 5, True, 12)]
    expected = [embedded.ask_many(graph, questions) for graph, questions in worlds]
    got: dict[tuple[int, int], Answer] = {}
    with Scheduler(fresh(embedded), max_rows=8) as scheduler:

        def work(number: int) -> None:
            graph, questions = worlds[number % 3]
            for place in range(number // 3, len(questions), 3):
                asked = question(embedded, graph, questions[place])
                if place % 3:
                    got[number % 3, place] = scheduler.ask(asked)
                else:
                    *_, last = scheduler.stream(asked)
                    assert isinstance(last, Answer)
                    got[number % 3, place] = last

        threads = [threading.Thread(target=work, args=(number,)) for number in range(9)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SECONDS)
        stats = scheduler.stats()
    assert len(got) == 36 and (stats.waiting, stats.running, stats.contexts) == (0, 0, 3)
    assert all(same(answer, expected[world][place]) for (world, place), answer in got.items())
    assert sum(answer.tokens_computed + answer.tokens_reused - answer.tokens_exact for answer in got.values()) == sum(
        sum(embedded.plan(graph, q).question.length for q in questions) + embedded.plan(graph).total_tokens for graph, questions in worlds
    ), "each context was read once"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout(layout: str) -> None:
    engine = tiny_engine()
    options: dict[str, Any] = {"ape": {"temperature": 0.7, "scale": 0.8}, "graph": {"rounds": 2, "view": "final"}, "graph_topk": {"m": 2}}.get(layout, {})
    with Scheduler(fresh(engine)) as scheduler:
        for text in ("Which?", "What is the longest of all the papers, and who wrote it?"):
            answer = scheduler.ask(question(engine, DOCUMENTS, text, layout=layout, options=options, max_new_tokens=7))
            assert same(answer, engine.ask(DOCUMENTS, text, layout=layout, max_new_tokens=7, **options))
            timings = answer.timings
            assert 0 < timings.plan < timings.first_token <= timings.total and timings.encode + timings.assemble <= timings.first_token


def test_contexts_that_are_weighed_otherwise_are_others() -> None:
    engine = tiny_engine()
    with Scheduler(fresh(engine)) as scheduler:
        for options in ({"temperature": 0.4, "scale": 0.8}, {"temperature": 0.4, "scale": 0.3}, {"temperature": 0.9, "scale": 0.8}, {}):
            answer = scheduler.ask(question(engine, DOCUMENTS, layout="ape", options=options, max_new_tokens=7))
            assert same(answer, engine.ask(DOCUMENTS, "Which?", layout="ape", max_new_tokens=7, **options)) and answer.tokens_exact == 0


def test_long_documents_are_cut_as_ask_cuts_them() -> None:
    engine = tiny_engine()
    graph = SegmentGraph.from_documents([{"id": "long", "text": "One sentence here. Another sentence there. A third one follows.", "title": "T"}], max_segment_tokens=40)
    with Scheduler(fresh(engine)) as scheduler:
        answer = scheduler.ask(question(engine, graph, max_new_tokens=5))
    assert same(answer, engine.ask(graph, "Which?", max_new_tokens=5)) and "long#2" in {use.id for use in answer.segments}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_questions_over_one_context_are_read_and_answered_in_the_same_forwards(dtype: torch.dtype) -> None:
    """The documents' encoding is held until eight questions wait: then one forward reads them all, and one forward a token answers them all."""
    engine = tiny_engine(dtype=dtype)
    forwards = Forwards(engine)
    with Scheduler(engine) as scheduler:
        with forwards.held():
            ahead = scheduler.encode(SegmentGraph.from_documents(DOCUMENTS))
            forwards.wait_until_held()
            tickets = [scheduler.submit(question(engine, DOCUMENTS, "?" * n, max_new_tokens=6 if n < 8 else 2)) for n in range(1, 9)]
            assert scheduler.stats().waiting == 8
        assert [len(ticket.future.result(SECONDS).token_ids) for ticket in tickets] == [6] * 7 + [2]
        assert forwards.log[-6:] == [("read", 8), ("step", 8), *[("step", 7)] * 4]
        assert ahead.result(SECONDS) == (0, engine.plan(SegmentGraph.from_documents(DOCUMENTS)).total_tokens)
        assert forwards.count("encode") + 6 == len(forwards.log)


def test_a_question_that_comes_later_joins_those_that_are_being_answered() -> None:
    engine = tiny_engine()
    forwards, seen = Forwards(engine), list[Piece]()
    with Scheduler(engine) as scheduler:

        def listen(piece: Piece) -> None:
            seen.append(piece)
            if len(seen) == 3:  # between two tokens of the first
                later.append(scheduler.submit(question(engine, list(reversed(DOCUMENTS)), "What then?", max_new_tokens=4)))

        later: list[Any] = []
        first = scheduler.submit(question(engine, DOCUMENTS, max_new_tokens=9), listen)
        assert len(first.future.result(SECONDS).token_ids) == 9 and len(later[0].future.result(SECONDS).token_ids) == 4
    answering = [entry for entry in forwards.log if entry[0] != "encode"]
    assert answering == [("read", 1), *[("step", 1)] * 2, ("read", 1), *[("step", 2)] * 3, *[("step", 1)] * 3]


@pytest.mark.parametrize("layout", ["graph", "pcw", "graph_full", "sequential"])
def test_documents_in_another_order_are_the_same_context(layout: str) -> None:
    """Except where the order is what they are read in."""
    engine = tiny_engine()
    graph = SegmentGraph.from_documents(DOCUMENTS)
    with Scheduler(engine) as scheduler:
        for order in ("abcd", "dcba", "bdac"):
            answer = scheduler.ask(question(engine, graph.reordered(order), layout=layout, max_new_tokens=5))
            assert same(answer, tiny_engine().ask(graph.reordered(order), "Which?", layout=layout, max_new_tokens=5))
            exact = 0 if layout == "sequential" or order == "abcd" else engine.plan(graph, layout=layout).total_tokens
            assert answer.tokens_exact == exact
        assert scheduler.stats().contexts == (3 if layout == "sequential" else 1)


def counts(answer: Answer) -> tuple[int, int, int]:
    return answer.tokens_reused, answer.tokens_exact, answer.tokens_computed


def test_what_was_reused_and_what_was_computed(tmp_path: Path) -> None:
    engine = tiny_engine()
    engine.store = FileStore(tmp_path / "kv")
    graph, asked = SegmentGraph.from_documents(DOCUMENTS), engine.plan(DOCUMENTS, "Which?").question.length
    total, part = engine.plan(graph).total_tokens, SegmentGraph.from_documents([DOCUMENTS[2], DOCUMENTS[3]])
    both = [*DOCUMENTS, *OTHERS]
    with Scheduler(engine) as scheduler:
        for documents, expected in (
            (graph, (0, 0, total + asked)),
            (graph, (total, total, asked)),
            (SegmentGraph.from_documents(DOCUMENTS), (total, total, asked)),  # another caller's
            (graph.reordered("cbad"), (total, total, asked)),
            (part, (engine.plan(part).total_tokens, 0, asked)),  # block by block
            (SegmentGraph.from_documents(both), (total, 0, engine.plan(both).total_tokens - total + asked)),
        ):
            answer = scheduler.ask(question(engine, documents, max_new_tokens=2))
            assert counts(answer) == expected
            assert all(use.reused == (use.id in "abcd" and expected[0] > 0) for use in answer.segments)
            assert answer.tokens_reused + answer.tokens_computed == engine.plan(documents, "Which?").total_tokens
    again = tiny_engine()
    again.store = FileStore(tmp_path / "kv")
    with Scheduler(again, context_bytes=0) as scheduler:  # a restart; and nothing stays assembled
        for _ in range(2):
            assert counts(scheduler.ask(question(again, graph, max_new_tokens=5))) == (total, 0, asked)
            assert scheduler.stats().contexts == scheduler.stats().context_bytes == 0
    with Scheduler(tiny_engine()) as scheduler:
        assert counts(scheduler.ask(question(engine, None, max_new_tokens=2))) == (0, 0, asked)


def test_contexts_are_forgotten_when_their_memory_is_used_up() -> None:
    engine = tiny_engine()
    one, other = (engine.plan(documents).total_tokens for documents in (DOCUMENTS, OTHERS))
    bytes_a_token = 2 * 2 * 2 * 16 * 4  # keys and values, layers, heads, dimensions, float32
    with Scheduler(engine, context_bytes=(one + other) * bytes_a_token - 1) as scheduler:
        seen = []
        for documents in (DOCUMENTS, DOCUMENTS, OTHERS, OTHERS, DOCUMENTS):
            answer = scheduler.ask(question(engine, documents, max_new_tokens=1))
            seen.append(answer.tokens_exact > 0)
            stats = scheduler.stats()
            assert stats.contexts == 1 and stats.context_bytes == (one if documents is DOCUMENTS else other) * bytes_a_token
        assert seen == [False, True, False, True, False]
    with Scheduler(engine, context_bytes=(one + other) * bytes_a_token) as scheduler:
        for documents in (DOCUMENTS, OTHERS, DOCUMENTS):
            answer = scheduler.ask(question(engine, documents, max_new_tokens=1))
        assert answer.tokens_exact == one and scheduler.stats().contexts == 2


def test_the_context_that_was_read_longest_ago_is_forgotten_first() -> None:
    engine = tiny_engine()
    sets = [random_graph({"a": 30}, [], seed=seed) for seed in range(3)]
    with Scheduler(engine, context_bytes=2 * 30 * 2 * 2 * 2 * 16 * 4) as scheduler:
        exact = [scheduler.ask(Question(ChatPrompt((), (1, 2)), sets[n], sampling=Sampling(max_new_tokens=1))).tokens_exact for n in (0, 1, 0, 2, 0, 2, 1, 2, 0)]
    assert exact == [0, 0, 30, 0, 30, 30, 0, 30, 0]


@pytest.mark.parametrize("scopes", [("", "a"), ("a", ""), ("a", "b")])
def test_nothing_is_reused_across_scopes(scopes: tuple[str, str]) -> None:
    """Neither from contexts that stand assembled nor from the store: what a caller is told, and how long it takes, says nothing of others."""
    engine = tiny_engine()
    graph = SegmentGraph.from_documents(DOCUMENTS)
    total = engine.plan(graph).total_tokens
    forwards = Forwards(engine)
    with Scheduler(engine) as scheduler:
        for scope in scopes:
            before = forwards.count("encode")
            assert counts(scheduler.ask(question(engine, graph, scope=scope, max_new_tokens=1)))[:2] == (0, 0)
            assert forwards.count("encode") > before
        for scope in scopes:
            assert counts(scheduler.ask(question(engine, graph, scope=scope, max_new_tokens=1)))[:2] == (total, total)
            assert counts(scheduler.ask(question(engine, graph.subgraph(["c", "d"]), scope=scope, max_new_tokens=1)))[0] > 0
        assert scheduler.encode(graph, scope="c").result(SECONDS) == (0, total)
    with Scheduler(engine) as scheduler:
        assert counts(scheduler.ask(question(engine, graph, scope="d", max_new_tokens=1)))[0] == 0
        assert counts(scheduler.ask(question(engine, graph, scope=scopes[1], max_new_tokens=1)))[:2] == (total, 0)


def test_encode_ahead() -> None:
    engine = tiny_engine()
    graph = SegmentGraph.from_documents(DOCUMENTS)
    with Scheduler(engine) as scheduler:
        for layout, options in (("graph", {"rounds": 2}), ("ape", {"temperature": 0.5}), ("sequential", {})):
            total = engine.plan(graph, layout=layout, **options).total_tokens
            reused, computed = scheduler.encode(graph, layout=layout, options=options).result(SECONDS)
            assert reused + computed == total and computed > 0
            assert scheduler.encode(graph.reordered("abcd"), layout=layout, options=options).result(SECONDS) == (total, 0)
            answer = scheduler.ask(question(engine, graph, layout=layout, options=options, max_new_tokens=3))
            assert answer.tokens_exact == total and answer.timings.encode == answer.timings.assemble == 0
            assert same(answer, tiny_engine().ask(graph, "Which?", layout=layout, max_new_tokens=3, **options))


def test_scores_are_those_of_the_engine() -> None:
    engine = tiny_engine()
    continuations = [" yes", " no", " neither of them, as far as one can see", *[f" {n}" for n in range(20)]]
    with Scheduler(fresh(engine)) as scheduler:
        for layout in ("graph", "ape"):
            theirs = engine.score(DOCUMENTS, "Which?", continuations, layout=layout)
            ours = scheduler.score(question(engine, DOCUMENTS, layout=layout), continuations).result(SECONDS)
            assert ours == pytest.approx(theirs, rel=1e-5)
            assert [(one.tokens, one.is_greedy) for one in ours] == [(one.tokens, one.is_greedy) for one in theirs]
        prompt = chat_prompt(engine, [("user", "Which?")], documents=False).question
        (alone,) = scheduler.score(Question(chat_prompt(engine, [("user", "Which?")], documents=False)), [" yes"]).result(SECONDS)
    ids = [*prompt, *engine.reader.ids(" yes")]
    with torch.no_grad():
        chances = engine.model.model(torch.tensor([ids])).logits[0].log_softmax(-1)
    assert alone == pytest.approx(float(sum(chances[len(prompt) + n - 1, token] for n, token in enumerate(ids[len(prompt) :]))), rel=1e-5)


@pytest.mark.parametrize("engine", [GraphKV.from_pretrained, lambda: tiny_engine(chat_template=CHATML), lambda: tiny_engine("gemma2")], ids=["embedded", "chatml", "gemma2"])
def test_a_conversation_without_documents_is_transformers_greedy_generate(engine: Any) -> None:
    made: GraphKV = engine()
    talks = [[("user", "Who wrote it?")], [("system", "Be brief."), ("user", "Who?"), ("assistant", "Ada."), ("user", "When was that, and where?")]]
    asked = [Question(chat_prompt(made, talk, documents=False), sampling=Sampling(max_new_tokens=20)) for talk in talks]
    with Scheduler(made) as scheduler:
        answers = [ticket.future.result(SECONDS) for ticket in [scheduler.submit(one) for one in asked]]
    for one, answer in zip(asked, answers, strict=True):
        ids = torch.tensor([one.prompt.question])
        out = made.model.model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=20, pad_token_id=made.model.pad_token_id)[0, ids.shape[1] :]
        end = made.model.model.generation_config.eos_token_id
        assert list(answer.token_ids) == [token for token in out.tolist() if token != end]
        assert answer.text == made.model.tokenizer.decode(out, skip_special_tokens=True).strip()
        assert (answer.segments, answer.citations, answer.layout, answer.tokens_computed) == ((), (), "", len(one.prompt.question))


@pytest.mark.parametrize("layout", ["graph", "sequential", "graph_sequential"])
def test_what_is_watched_of_a_context(layout: str) -> None:
    """Each part is one block that the question reads, but for its first token, which draws attention whatever it says; the prefix is no part."""
    engine = tiny_engine()
    asked = Question(ChatPrompt((1, 2, 3), (4, 5)), SegmentGraph.from_documents(DOCUMENTS).reordered("dbca"), layout)
    laid = prepare(engine, asked).laid
    assert laid is not None
    encoded = engine.encode(laid.graph, layout=layout, prefix=(1, 2, 3))
    ready = ready_context(laid, assemble(engine.model, encoded))
    watched = [i for i in laid.order if laid.layout.blocks[i].segment is not None]
    assert ready.count == len(watched) == len(laid.segments) and sorted([*laid.order]) == sorted(laid.layout.exposed)
    for part, (i, segment) in enumerate(zip(watched, laid.segments, strict=True)):
        assert laid.layout.blocks[i].segment == segment
        assert torch.equal(ready.context.values[1][:, ready.groups == part], encoded.blocks[i].values[1][:, 1:])
    assert int((ready.groups == ready.count).sum()) == 3 + ready.count and len(ready.groups) == ready.context.length


def test_the_engine_and_another_scheduler_go_on_over_the_same_model(embedded: GraphKV) -> None:
    graph, questions = read_demo()
    expected = [embedded.ask(graph, row["question"]).text for row in questions]
    got = list[tuple[str, str]]()

    def work(ask: Any) -> None:
        for row, text in zip(questions, expected, strict=True):
            got.append((ask(row["question"]), text))

    with Scheduler(fresh(embedded)) as one, Scheduler(fresh(embedded)) as other:
        ways = [
            *(lambda q, way=way: way.ask(question(embedded, graph, q)).text for way in (one, other)),
            lambda q: fresh(embedded).ask(graph, q).text,
            lambda q: "".join(embedded.stream(graph, q)),
        ]
        threads = [threading.Thread(target=work, args=(way,)) for way in ways]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SECONDS)
    assert len(got) == 20 and all(text == right for text, right in got)


def test_a_seed_gives_the_same_answer_alone_and_among_others() -> None:
    engine = tiny_engine()
    settings = {"temperature": 1.2, "top_p": 0.95, "seed": 7, "max_new_tokens": 15}
    with Scheduler(engine) as scheduler:
        alone = scheduler.ask(question(engine, DOCUMENTS, **settings))
        others = [scheduler.submit(question(engine, DOCUMENTS, "?" * n, temperature=1.0, seed=n, max_new_tokens=5 + n)) for n in range(1, 9)]
        again = scheduler.submit(question(engine, DOCUMENTS, **settings))
        assert again.future.result(SECONDS).token_ids == alone.token_ids
        assert len({ticket.future.result(SECONDS).token_ids for ticket in others}) == 8
        assert scheduler.ask(question(engine, DOCUMENTS, **{**settings, "seed": 8})).token_ids != alone.token_ids
