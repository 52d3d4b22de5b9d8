"""The RAG sets' formats from rows made by hand: documents, order, answers, types, prompts as released, and rows that cannot be read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from graphkv.layouts import make_layout, ranking
from graphkv.prompt import PromptTemplate
from graphkv_benchmarks.runner.case import Broken, Case
from graphkv_benchmarks.tasks.rag import RagQA
from graphkv_benchmarks.tasks.rag_prompts import TEMPLATES
from graphkv_benchmarks.tasks.rag_rows import passages_of


def block(**changes: Any) -> dict[str, Any]:
    rhine, elbe = {"title": "Rhine", "text": "A river."}, {"title": "Elbe", "text": "Another."}
    documents = [{**rhine, "score": 0.9}, {**elbe, "score": 0.1}, {**rhine, "score": 0.5}]
    whole = {"prompt": "x", "question": "Which river?", "answers": ["Rhine"], "generated": "", "inputs": {"input_ids": [1], "labels": [1]}}
    return {**whole, "documents": documents, **changes}


def multihop(**changes: Any) -> dict[str, Any]:
    retrieved = [
        {"text": "[Excerpt from document]\ntitle: Rhine\nsource: The Verge\nExcerpt:\n-----\nA river.\n-----", "score": 0.8},
        {"text": "Plain text.", "score": 0.2},
    ]
    return {"query": "Which river?", "retrieval_list": retrieved, "answer": "Rhine", "question_type": "inference_query", **changes}


def morehop(**changes: Any) -> dict[str, Any]:
    return {"question": "Which river?", "answers": "Rhine", "documents": ["Title: Elbe\nAnother.", "Title: Rhine\nA river."], "no_of_hops": 3, **changes}


def original(**changes: Any) -> dict[str, Any]:
    context = [["Rhine", ["The Rhine is a river.", " It is long."]], ["Town", ["A town."]], ["Rhine", ["Another Rhine."]]]
    return {"_id": "r1", "question": "How long is the river Rhine?", "answer": "5", "context": context, "no_of_hops": 1, **changes}


def longbench(**changes: Any) -> dict[str, Any]:
    choices = {"choice_A": " one ", "choice_B": "two", "choice_C": "three", "choice_D": "four"}
    about = {"_id": "l1", "domain": "Single-Document QA", "sub_domain": "x", "difficulty": "hard", "length": "short"}
    return {**about, "question": " How many rivers? ", **choices, "answer": "B", "context": "  Nothing here.  Some rivers\nare two. The end.\n", **changes}


def task_of(tmp_path: Path, name: str, rows: list[Any], **options: Any) -> RagQA:
    path = tmp_path / "rows.json"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return RagQA(name, str(path), **options)


def case_of(tmp_path: Path, name: str, row: Any, **options: Any) -> Case:
    task = task_of(tmp_path, name, [row], **options)
    (case,) = (case for unit in task.units() for case in task.cases(unit))
    assert isinstance(case, Case), case
    return case


def shown(case: Case, template: PromptTemplate) -> str:
    """Everything that the model is shown, in the order of the documents."""
    return template.prefix + "".join(template.render(segment) for segment in case.graph) + template.ask(case.questions[0].text)


PREFIX = (
    "<|user|>\nYou are an intelligent AI assistant. Please answer questions based on the user's instructions. "
    "Below are some reference documents that may help you in answering the user's question.\n\n"
)


@pytest.mark.parametrize("name", ["nq", "2wiki", "tqa", "hotpotqa"])
def test_a_block_row(tmp_path: Path, name: str) -> None:
    case = case_of(tmp_path, name, block(type="bridge"))
    assert case.unit == "0" and case.setting == {} and case.graph.edges == ()
    read = [(s.id, s.title, s.text, s.score) for s in case.graph]
    assert read == [("d1", "Elbe", "Another.", 0.1), ("d2", "Rhine", "A river.", 0.5), ("d0", "Rhine", "A river.", 0.9)]
    (question,) = case.questions
    assert (question.id, question.text, question.answers, question.type) == ("0", "Which river?", ("Rhine",), "bridge")
    assert shown(case, TEMPLATES[name]) == (
        PREFIX + "- Title: Elbe\nAnother.\n- Title: Rhine\nA river.\n- Title: Rhine\nA river.\n"
        "Please write a high-quality answer for the given question using only the provided search documents (some of which might be irrelevant). \n"
        " Question: Which river? \n<|assistant|>\n"
    )


def test_documents_with_equal_scores_or_without_a_title(tmp_path: Path) -> None:
    documents = [{"title": "", "text": "One.", "score": 1}, {"title": "b", "text": "Two.", "score": 1}, {"title": "c", "text": "Three.", "score": -2.5}]
    case = case_of(tmp_path, "tqa", block(documents=documents))
    assert case.graph.ids == ("d2", "d0", "d1")
    assert shown(case, TEMPLATES["tqa"])[len(PREFIX) :].startswith("- Title: c\nThree.\n- Title: \nOne.\n- Title: b\nTwo.\n")


def test_of_equal_scores_the_one_shown_last_is_the_best(tmp_path: Path) -> None:
    """Top-1 reads what stands next to the question, as the official code takes the last ones; the row's score stays known."""
    documents = [{"title": "", "text": f"Text {i}.", "score": score} for i, score in enumerate((0.5, 0.5, 0.25, 0.5, 0.25))]
    rows = {"tqa": block(documents=documents), "multihop-rag": multihop(retrieval_list=documents), "morehopqa": original(question="Nothing in common?")}
    for name, row in rows.items():
        case = case_of(tmp_path, name, row)
        released = [segment.metadata.get("score", segment.score) or 0.0 for segment in case.graph]
        assert ranking(case.graph) == case.graph.ids[::-1] and released == sorted(released) and len(set(released)) < len(released), name
    graph = case_of(tmp_path, "tqa", rows["tqa"]).graph
    assert graph.ids == ("d2", "d4", "d0", "d1", "d3")
    assert [segment.score for segment in graph] == pytest.approx([0.25, 0.25, 0.5, 0.5, 0.5], abs=1e-12)
    assert [segment.metadata.get("score") for segment in graph] == [None, 0.25, None, 0.5, 0.5]
    top = make_layout("graph_topk", graph, dict.fromkeys(graph.ids, 10), prefix=1, question=1, m=1)
    assert [block.segment for block in top.blocks if block.role == "source"] == ["d3"]


def test_answers_of_nq_are_nested(tmp_path: Path) -> None:
    row = block(answers=[["Rhine", "the Rhine", ""], ["Elbe", "Rhine"]])
    assert case_of(tmp_path, "nq", row).questions[0].answers == ("Rhine", "the Rhine", "Elbe")
    assert case_of(tmp_path, "nq", row, as_published=True).questions[0].answers == ("Rhine", "the Rhine", "")
    for name in ("tqa", "2wiki", "hotpotqa"):  # only NQ's are cut to a list
        assert case_of(tmp_path, name, row, as_published=True).questions[0].answers == ("Rhine", "the Rhine", "", "Elbe")
    assert case_of(tmp_path, "tqa", block(answers="Rhine")).questions[0].answers == ("Rhine",)
    assert case_of(tmp_path, "tqa", block(answers=[1959, "x"])).questions[0].answers == ("1959", "x")


@pytest.mark.parametrize(
    ("name", "row", "kept", "scores"),
    [
        ("nq", block(answers=[[], ["Rhine"]]), (), 0.0),
        ("nq", block(answers=[[""], ["Rhine"]]), ("",), 1.0),
        ("nq", block(answers=[["", "Elbe"]]), ("", "Elbe"), 1.0),
        ("tqa", block(answers=[]), (), 0.0),
        ("tqa", block(answers=["..."]), ("...",), 1.0),
        ("hotpotqa", block(answers=""), ("",), 1.0),
        ("morehopqa", morehop(answers=""), ("",), 1.0),
        ("morehopqa", original(answer=[]), (), 0.0),
    ],
)
def test_empty_answers_as_published(tmp_path: Path, name: str, row: Any, kept: tuple[str, ...], scores: float) -> None:
    """The official code loops over the answers: none of them scores 0, an empty one is found in everything."""
    task = task_of(tmp_path, name, [row], as_published=True)
    (case,) = task.cases(task.units()[0])
    assert isinstance(case, Case) and case.questions[0].answers == kept
    assert task.score("The Rhine.", case.questions[0]) == task.score("", case.questions[0]) == scores
    assert task.further([{"answer": "The Rhine.", "gold": list(kept)}]) == {}


def test_a_row_of_multihop_rag(tmp_path: Path) -> None:
    case = case_of(tmp_path, "multihop-rag", multihop())
    assert [segment.title for segment in case.graph] == [None, None] and case.questions[0].type == "inference_query"
    assert shown(case, TEMPLATES["multihop-rag"]) == (
        PREFIX + "Plain text.\nTitle: Rhine\nsource: The Verge\nExcerpt:\n-----\nA river.\n-----\n"
        "Please write a high-quality answer for the given question using only the provided search documents. The answer to the question is a word or entity. "
        "If the provided information is insufficient to answer the question, respond 'Insufficient Information'. "
        "Please finally give your answer started with: 'The answer is:'. \n Question: Which river? \n<|assistant|>\n"
    )
    titled = case_of(tmp_path, "multihop-rag", multihop(), prompt="model")
    assert [(s.title, s.text) for s in titled.graph] == [(None, "Plain text."), ("Rhine", "source: The Verge\nExcerpt:\n-----\nA river.\n-----")]
    whole = tmp_path / "whole.json"
    whole.write_text(json.dumps([multihop(), multihop(query="Why?")], indent=4), encoding="utf-8")
    assert RagQA("multihop-rag", str(whole)).units() == ("0", "1")


def test_a_row_of_morehopqa_as_graph_kv_has_it(tmp_path: Path) -> None:
    case = case_of(tmp_path, "morehopqa", morehop())
    assert [(s.id, s.title, s.score) for s in case.graph] == [("d0", None, 0.0), ("d1", None, 1.0)] and case.questions[0].type == "3 hops"
    assert shown(case, TEMPLATES["morehopqa"]) == (
        PREFIX + "Title: Elbe\nAnother.\nTitle: Rhine\nA river.\n"
        "Please write a high-quality answer for the given question using only the provided search documents. "
        "(If the answer is a date, format is as follows: YYYY-MM-DD (ISO standard).) "
        "After thinking step by step, give your final answer following 'Answer:' \n Question: Which river? \n<|assistant|>\n"
    )
    assert [(s.title, s.text) for s in case_of(tmp_path, "morehopqa", morehop(), prompt="model").graph] == [("Elbe", "Another."), ("Rhine", "A river.")]


def test_a_row_of_morehopqa_as_its_authors_have_it(tmp_path: Path) -> None:
    case = case_of(tmp_path, "morehopqa", original())
    scores = [segment.score or 0.0 for segment in case.graph]
    assert case.unit == "r1" and case.questions[0].type == "1 hop" and case.questions[0].answers == ("5",)
    assert {s.id: s.title for s in case.graph} == {"d0": "Rhine", "d1": "Town", "d2": "Rhine"}
    assert scores == sorted(scores) and scores[-1] > 0 and case.graph.ids[-1] == "d0"
    assert "- Title: Rhine\nThe Rhine is a river. It is long.\nPlease write" in shown(case, TEMPLATES["morehopqa"])
    assert case_of(tmp_path, "morehopqa", original(documents=None)).graph.ids == case.graph.ids


def test_a_row_of_longbench(tmp_path: Path) -> None:
    case = case_of(tmp_path, "longbench-v2", longbench(), passage_words=3)
    assert [s.text for s in case.graph] == ["Nothing here.  Some ", "rivers\nare two. ", "The end."]  # the text's order
    scores = [segment.score or 0.0 for segment in case.graph]
    assert scores[1] == max(scores) > 0 and scores[0] == 0 and scores[2] == pytest.approx(0, abs=1e-300)
    assert ranking(case.graph) == ("d1", "d2", "d0")  # of equals the later one, as in the other sets
    (question,) = case.questions
    assert (question.id, question.answers, question.choices, question.type) == ("l1", ("B",), ("one", "two", "three", "four"), "hard, short")
    released = (
        "Please read the following text and answer the question below.\n\n<text>\n$DOC$\n</text>\n\nWhat is the correct answer to this question: $Q$\n"
        'Choices:\n(A) $C_A$\n(B) $C_B$\n(C) $C_C$\n(D) $C_D$\n\nFormat your response as follows: "The correct answer is (insert answer here)".'
    )
    row = longbench()
    for mark, name in (("$DOC$", "context"), ("$Q$", "question"), ("$C_A$", "choice_A"), ("$C_B$", "choice_B"), ("$C_C$", "choice_C"), ("$C_D$", "choice_D")):
        released = released.replace(mark, row[name].strip())
    assert shown(case, TEMPLATES["longbench-v2"]) == f"<|user|>\n{released}\n<|assistant|>\n"


def test_longbench_takes_one_domain(tmp_path: Path) -> None:
    rows = [longbench(), longbench(_id="l2", domain="Code"), longbench(_id="l3", domain=None)]
    assert task_of(tmp_path, "longbench-v2", rows).units() == ("l1", "l3")
    assert task_of(tmp_path, "longbench-v2", rows, domain="Code").units() == ("l2", "l3")
    assert task_of(tmp_path, "longbench-v2", rows, domain="").units() == ("l1", "l2", "l3")
    for domain, kinds in (("Code", [Case, Broken]), ("", [Case, Case, Case])):  # a row must have one only where one is asked for
        task = task_of(tmp_path, "longbench-v2", rows, domain=domain)
        assert [type(case) for unit in task.units() for case in task.cases(unit)] == kinds
    assert task_of(tmp_path, "longbench-v2", [longbench(), longbench(domain=" ")]).units() == ("l1", "l1#1")
    with pytest.raises(ValueError, match="no row of the domain 'Law'; there are Code, Single-Document QA"):
        task_of(tmp_path, "longbench-v2", rows[:2], domain="Law").units()


@pytest.mark.parametrize("words", [1, 2, 3, 5, 100])
@pytest.mark.parametrize("text", ["one", "one two", " a  b\nc\td e f ", "a b c d e f g h i j"])
def test_passages_joined_are_the_text(text: str, words: int) -> None:
    parts = passages_of(text, words)
    assert "".join(parts) == text and [len(part.split()) for part in parts[:-1]] == [words] * (len(parts) - 1) and 1 <= len(parts[-1].split()) <= words


BROKEN = [
    ("nq", "{not json", "line 2: not valid JSON"),
    ("nq", "[1]", "line 2: got list; expected one JSON object"),
    ("nq", block(question=None), "missing question; the row has answers, documents"),
    ("nq", block(question=" "), "question is empty"),
    ("nq", block(question=5), "expected question to be a string, got int"),
    ("nq", block(documents=[]), "documents is empty"),
    ("nq", block(documents=["x"]), "document 0: expected an object with text and score, got str"),
    ("nq", block(documents=[{"title": "t", "text": "x"}]), "document 0: expected score to be a finite number, got None"),
    ("nq", block(documents=[{"title": "t", "text": "x", "score": float("nan")}]), "expected score to be a finite number, got nan"),
    ("nq", block(documents=[{"text": "x", "score": 1}]), "document 0: expected title to be a string, got None"),
    ("nq", block(documents=[{"title": "t", "text": " ", "score": 1}]), "document 0: segment 'd0' is empty"),
    ("nq", block(answers=[]), "answers is empty"),
    ("nq", block(answers=[{"a": 1}]), "expected answers to be texts or lists of texts, got dict"),
    ("multihop-rag", multihop(retrieval_list=None), "missing retrieval_list"),
    ("multihop-rag", multihop(answer=""), "answer is empty"),
    ("morehopqa", morehop(documents=["x", 5]), "document 1: expected a string, got int"),
    ("morehopqa", morehop(documents=None), "missing documents"),
    ("morehopqa", original(context=[["Rhine", "text"]]), r"context, passage 0: expected [title, [sentence"),
    ("longbench-v2", longbench(choice_C=None), "missing choice_C"),
    ("longbench-v2", longbench(answer="E"), "expected answer to be A, B, C or D, got 'E'"),
    ("longbench-v2", longbench(domain=None), "missing domain"),
    ("longbench-v2", longbench(context=" "), "context is empty"),
]
GOOD = {"nq": block, "tqa": block, "multihop-rag": multihop, "morehopqa": morehop, "longbench-v2": longbench}


EMPTY = [
    ("nq", block(answers=[[""], [" "]]), "the answer is empty"),
    ("nq", block(answers=[[], []]), "the answer is empty"),
    ("tqa", block(answers=[]), "answers is empty"),
    ("morehopqa", morehop(answers=""), "answers is empty"),
]
"""Broken unless as published."""


ALL = [*((*each, flag) for each in BROKEN for flag in (False, True)), *((*each, False) for each in EMPTY)]


@pytest.mark.parametrize(("name", "row", "said", "as_published"), ALL)
def test_a_broken_row_is_named_and_the_rest_goes_on(tmp_path: Path, name: str, row: Any, said: str, as_published: bool) -> None:
    """A whole row, the broken one, a whole row: three units, one of them broken, with its file and line."""
    good = GOOD[name]
    task = task_of(tmp_path, name, [good(), row, good()], as_published=as_published)
    first, broken, last = [case for unit in task.units() for case in task.cases(unit)]
    assert isinstance(first, Case) and isinstance(last, Case) and first.unit != last.unit
    assert isinstance(broken, Broken) and broken.id == task.units()[1]
    assert said in broken.reason and broken.reason.startswith("rows.json, line 2: "), broken.reason
