"""Long-context benchmarks: haystacks of the right length, needles where they should be, RULER's words and counts, scores."""

from __future__ import annotations

import itertools
import random
import re
from collections import Counter
from pathlib import Path

import pytest
from helpers import tiny_engine

from graphkv import GraphKV
from graphkv.errors import DocumentError, InputError, LengthError
from graphkv.prompt import PromptTemplate
from graphkv_benchmarks.citation_world import is_held_out
from graphkv_benchmarks.long_context import citation
from graphkv_benchmarks.long_context.cases import Context, Form, short
from graphkv_benchmarks.long_context.citation import citation_contexts
from graphkv_benchmarks.long_context.haystack import Haystack, Meter, documents_of, filler_haystack, insert, room_for, text_haystack
from graphkv_benchmarks.long_context.many_needles import many_needle_contexts, many_value_contexts
from graphkv_benchmarks.long_context.needle import needle_contexts, spread
from graphkv_benchmarks.long_context.passkey import passkey_contexts
from graphkv_benchmarks.long_context.ruler import TASKS, Setting, ruler_contexts
from graphkv_benchmarks.long_context.ruler.common_words import numbered
from graphkv_benchmarks.long_context.ruler.frequent_words import word_counts, zeta
from graphkv_benchmarks.long_context.ruler.niah import NIAH, _draw
from graphkv_benchmarks.long_context.ruler.setting import NOISE
from graphkv_benchmarks.long_context.scores import SCORES

LENGTH = 2048


@pytest.fixture(scope="module")
def embedded() -> GraphKV:
    return GraphKV.from_pretrained(store="memory")


@pytest.fixture(scope="module")
def meter(embedded: GraphKV) -> Meter:
    return Meter(embedded)


@pytest.fixture(scope="module")
def haystack(meter: Meter) -> Haystack:
    return filler_haystack(meter, 3 * LENGTH, 1)


@pytest.fixture(scope="module")
def setting(meter: Meter, haystack: Haystack) -> Setting:
    return Setting(meter, haystack, 42, 512)


def prompt_of(engine: GraphKV, context: Context, question: str) -> str:
    """The whole prompt as the engine splices it, the answer's first words included."""
    template = context.form.template(engine.template) if context.form else engine.template
    documents = "".join("".join(text for text, _ in template.pieces(d.get("title"), d["text"])) for d in context.build())
    return template.prefix + documents + template.ask(question) + (context.form.begin(engine.template) if context.form else "")


def tokens_of(engine: GraphKV, context: Context) -> int:
    """Tokens of the whole prompt with the longest question and the answer's room: tokenised at once, as nothing in the generators does."""
    return max(len(engine.reader.ids(prompt_of(engine, context, case.question))) for case in context.cases) + context.max_new_tokens


def text_of(context: Context, separator: str = "\n") -> str:
    return separator.join(d["text"] for d in context.build())


# Haystacks


@pytest.mark.parametrize(("depth", "place"), [(0.0, 0), (0.24, 1), (0.26, 1), (0.5, 2), (0.9, 4), (1.0, 4)])
def test_a_needle_stands_at_the_nearest_border(depth: float, place: int) -> None:
    assert insert(["a", "b", "c", "d"], [2, 2, 2, 2], [(depth, "N")]).index("N") == place


def test_depth_counts_tokens_not_sentences() -> None:
    assert insert(["long", "b", "c"], [90, 5, 5], [(0.5, "N")]) == ["long", "N", "b", "c"]
    assert insert(["long", "b", "c"], [90, 5, 5], [(0.96, "N")]) == ["long", "b", "N", "c"]
    assert insert(["a", "b"], [1, 1], [(0.5, "N"), (0.5, "M"), (0.0, "S")]) == ["S", "a", "N", "M", "b"]


def test_documents_are_cut_between_sentences() -> None:
    documents = documents_of(["a", "b", "c", "d", "e"], [3, 3, 3, 3, 3], " ", 5)
    assert [d["text"] for d in documents] == ["a b", "c d", "e"] and [d["id"] for d in documents] == ["h0", "h1", "h2"]
    assert [d["text"] for d in documents_of(["a", "b"], [3, 3], "\n", 0)] == ["a\nb"]


def test_room_is_what_the_prompt_leaves() -> None:
    assert room_for(1000, 100, 2, 0) == 898
    assert room_for(1000, 100, 2, 400, 50) == 844
    with pytest.raises(LengthError, match="no room for a haystack"):
        room_for(100, 100, 1, 0)


def test_the_users_own_haystack(meter: Meter, tmp_path: Path) -> None:
    path = tmp_path / "essay.txt"
    path.write_text("It costs 3.14 dollars.\nBuy   it! Then rest.", encoding="utf-8")
    hay = text_haystack(meter, path)
    assert hay.units == ("It costs 3.14 dollars.", "Buy it!", "Then rest.")
    assert hay.take(sum(hay.counts) + hay.counts[0]) == [*hay.units, hay.units[0]]  # begun again
    with pytest.raises(LengthError, match="single sentence"):
        hay.take(1)
    path.write_text("  \n", encoding="utf-8")
    with pytest.raises(DocumentError, match="is empty"):
        text_haystack(meter, path)
    with pytest.raises(DocumentError, match="cannot be read"):
        text_haystack(meter, tmp_path / "none.txt")


def test_short_names_of_lengths() -> None:
    assert [short(n) for n in (1000, 1024, 65_536, 2 * 1024**2)] == ["1000", "1k", "64k", "2M"]


# Every task: its length, its golds in its text, the same each time


@pytest.mark.parametrize("document_tokens", [0, 512])
def test_lengths_are_tokens_of_the_model(embedded: GraphKV, meter: Meter, haystack: Haystack, document_tokens: int) -> None:
    """1. What the generators count sentence by sentence. 2. The whole prompt, tokenised at once: never more, and full up to a sentence or two."""
    setting = Setting(meter, haystack, 42, document_tokens)
    contexts = needle_contexts(meter, haystack, [LENGTH], [0.0, 1.0], per_context=2, document_tokens=document_tokens)
    contexts += passkey_contexts(meter, [LENGTH], [0.5], cases=1, document_tokens=document_tokens)
    contexts += many_needle_contexts(meter, haystack, LENGTH, contexts=1, document_tokens=document_tokens)
    contexts += many_value_contexts(meter, haystack, LENGTH, contexts=1, document_tokens=document_tokens)
    contexts += ruler_contexts(setting, list(TASKS), [LENGTH], 1)
    if document_tokens:
        contexts += citation_contexts(meter, LENGTH, contexts=1, each=3)
    for context in contexts:
        slack = 140 if context.id.startswith(("fwe", "niah_multikey_3", "citation")) else 64  # longer units, coarser steps
        assert LENGTH - slack < tokens_of(embedded, context) <= LENGTH, context.id
        assert (len(context.build()) == 1) == (document_tokens == 0), context.id
        assert context.build() == context.build(), context.id


def test_golds_stand_in_the_text(meter: Meter, haystack: Haystack, setting: Setting) -> None:
    contexts = needle_contexts(meter, haystack, [LENGTH], spread(3), phrasings=6) + passkey_contexts(meter, [LENGTH], spread(3), cases=2)
    contexts += many_needle_contexts(meter, haystack, LENGTH, contexts=2) + many_value_contexts(meter, haystack, LENGTH, contexts=1)
    contexts += ruler_contexts(setting, [*NIAH, "vt", "cwe", "fwe"], [LENGTH], 2)
    assert len({case.id for context in contexts for case in context.cases}) == sum(len(context.cases) for context in contexts)
    for context in contexts:
        text = text_of(context)
        for case in context.cases:
            assert all(gold in text for gold in case.golds), case.id


def test_needles_have_their_depths_and_unseen_names(meter: Meter, haystack: Haystack) -> None:
    contexts = needle_contexts(meter, haystack, [LENGTH], spread(5), phrasings=3, per_context=5)
    assert [len(context.cases) for context in contexts] == [5, 5, 5]
    assert Counter(case.depth for context in contexts for case in context.cases) == dict.fromkeys(spread(5), 3)
    for context in contexts:
        assert sorted(case.depth or 0.0 for case in context.cases) == spread(5)
        text = text_of(context, " ")
        for case in context.cases:
            at = text.index(case.golds[0]) / len(text)
            assert abs(at - (case.depth or 0.0)) < 0.06
        keys = [re.search(r"(?:for|of) ([A-Z]\w+(?: [A-Z]\w+)?)[? ]", case.question) for case in context.cases]
        assert all(key is not None and is_held_out(key[1]) for key in keys)
    trained = needle_contexts(meter, haystack, [LENGTH], [0.5], phrasings=1, held_out=False)[0].cases[0].question
    assert not is_held_out(trained.removeprefix("What is the special magic number for ").removesuffix(" mentioned in the provided text?"))
    with pytest.raises(InputError, match="phrasings must be from 1 to 6, got 7"):
        needle_contexts(meter, haystack, [LENGTH], [0.5], phrasings=7)
    with pytest.raises(LengthError, match="no room for a haystack"):
        needle_contexts(meter, haystack, [40], [0.5])


def test_needles_that_differ_in_their_keys_only(meter: Meter, haystack: Haystack) -> None:
    first = many_needle_contexts(meter, haystack, LENGTH, contexts=1, needles=6, asked=4)[0]
    assert len(first.cases) == 4 and text_of(first).count("One of the special magic numbers for ") == 6
    several = many_value_contexts(meter, haystack, LENGTH, contexts=1, keys=3, values=2)[0]
    assert [len(case.golds) for case in several.cases] == [2, 2, 2] and several.score == "string_match_all"


def test_citation_worlds_among_others(meter: Meter) -> None:
    context = citation_contexts(meter, 8192, contexts=1, each=4)[0]
    documents = context.build()
    titles = [d["title"] for d in documents]
    assert len(documents) > 100 and len({t.lower() for t in titles}) == len(titles) and len({d["id"] for d in documents}) == len(documents)
    assert sum(is_held_out(title) for title in titles) == 8
    assert {source for d in documents for source in d["sources"]} <= {d["id"] for d in documents}
    assert sum(len(d["sources"]) for d in documents) > 60
    assert Counter(case.task for case in context.cases) == {"citation_1_hop": 4, "citation_2_hops": 4}


def test_lengths_beyond_the_titles_are_refused_before_anything_is_asked(embedded: GraphKV, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(citation, "MOST_OTHERS", 100)
    with pytest.raises(InputError, match="16384 tokens is too much for citation worlds: there are titles for 100 other papers"):
        citation_contexts(Meter(embedded), 16_384, contexts=1, each=1)


# RULER


def test_rulers_needle_tasks_say_what_ruler_says(embedded: GraphKV, meter: Meter, haystack: Haystack) -> None:
    plain = PromptTemplate("", "{title}\n{text}\n\n", "{text}\n\n", "Question: {question}\nAnswer:", "plain")
    setting = Setting(meter, haystack, 42, 0)
    single, several = (TASKS[name](setting, name, LENGTH, 0) for name in ("niah_single_1", "niah_multiquery"))
    assert single.form is not None and several.form is not None
    key = single.cases[0].question.split(" for ")[1].split(" ")[0]
    template = single.form.template(plain)
    text = single.build()[0]["text"]
    assert template.prefix + text + "\n" + template.ask(single.cases[0].question) + single.form.begin(plain) == (
        "A special magic number is hidden within the following text. Make sure to memorize it. I will quiz you about the number afterwards.\n"
        f"{text}\nWhat is the special magic number for {key} mentioned in the provided text? The special magic number for {key} mentioned in the provided text is"
    )
    lines = text.split("\n")
    assert set(lines) == {NOISE, f"One of the special magic numbers for {key} is: {single.cases[0].golds[0]}."}
    assert re.fullmatch(r"\d{7}", single.cases[0].golds[0]) and single.max_new_tokens == 128
    asked = several.cases[0].question
    assert re.fullmatch(r"What are all the special magic numbers for [\w-]+, [\w-]+, [\w-]+, and [\w-]+ mentioned in the provided text\?", asked)
    assert several.form.instruction.startswith("Some special magic numbers are hidden within the following text.")
    assert several.form.begin(plain) == f" The special magic numbers for {asked.split(' for ')[1].split(' mentioned')[0]} mentioned in the provided text are"


@pytest.mark.parametrize(
    ("name", "golds", "needles", "value"),
    [
        ("niah_single_2", 1, 1, r"\d{7}"),
        ("niah_single_3", 1, 1, r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"),
        ("niah_multikey_1", 1, 4, r"\d{7}"),
        ("niah_multivalue", 4, 4, r"\d{7}"),
        ("niah_multiquery", 4, 4, r"\d{7}"),
    ],
)
def test_rulers_needles_in_essays(setting: Setting, name: str, golds: int, needles: int, value: str) -> None:
    context = TASKS[name](setting, name, LENGTH, 3)
    assert len(context.cases[0].golds) == golds and all(re.fullmatch(value, gold) for gold in context.cases[0].golds)
    assert text_of(context).count("One of the special magic ") == needles


def test_rulers_haystack_of_needles(setting: Setting) -> None:
    context = TASKS["niah_multikey_2"](setting, "niah_multikey_2", LENGTH, 0)
    lines = text_of(context).split("\n")
    assert len(lines) > 40 and all(re.fullmatch(r"One of the special magic numbers for [\w-]+ is: \d{7}\.", line) for line in lines)
    assert sum(context.cases[0].golds[0] in line for line in lines) == 1
    keys = [line.split(" for ")[1].split(" is: ")[0] for line in lines]
    assert len(set(keys)) == len(keys)  # the one that is asked for is no other's


def test_there_are_keys_for_a_million_tokens() -> None:
    """More than there are pairs of words: then three of them make a key."""
    rng = random.Random(1)
    drawn: set[str] = set()
    keys = [_draw("words", rng, drawn) for _ in range(16_000)]
    assert len(set(keys)) == 16_000 and all(key.count("-") == 1 for key in keys[:5000]) and any(key.count("-") == 2 for key in keys)


def test_rulers_variable_tracking(setting: Setting) -> None:
    context = TASKS["vt"](setting, "vt", LENGTH, 0)
    variables = context.cases[0].golds
    lines = [line for line in text_of(context).split("\n") if line != NOISE]
    value = re.search(r"value (\d{5}) in", context.cases[0].question)
    assert value is not None and len(variables) == 5
    assert lines == [f"VAR {variables[0]} = {value[1]}", *(f"VAR {b} = VAR {a} " for a, b in itertools.pairwise(variables))]
    form = context.form
    assert form is not None and form.instruction.count("Memorize and track the chain(s)") == 2 and "5 variables are assigned the value" in form.answer
    bare = TASKS["vt"](Setting(setting.meter, setting.essays, 42, 512, bare=True), "vt", LENGTH, 0)
    assert bare.form is not None and bare.form.instruction.count("Memorize and track") == 1 and bare.form.answer == "" and bare.max_new_tokens == 30


def test_rulers_common_words(setting: Setting) -> None:
    units, common = numbered(random.Random(1), 50, 30, 3)
    counts = Counter(unit.split(" ")[1] for unit in units)
    assert [unit.split(" ")[0] for unit in units] == [f"{i}." for i in range(1, 421)]
    assert counts == {word: 30 if word in common else 3 for word in counts} and len(common) == 10 and len(counts) == 50
    for length, often in ((LENGTH, 6), (4096, 6), (8192, 30)):
        context = TASKS["cwe"](setting, "cwe", length, 0)
        words = re.findall(r"\d+\. (\w+)", text_of(context, " "))
        assert {word for word, _ in Counter(words).most_common(10)} == set(context.cases[0].golds)
        assert all(Counter(words)[gold] == often for gold in context.cases[0].golds)


def test_rulers_frequent_words(setting: Setting) -> None:
    assert zeta(2.0) == pytest.approx(1.6449340668482264) and zeta(3.5) == pytest.approx(1.1267338673170566)
    assert word_counts(5, 10_000) == [6079, 1519, 675, 379, 243]
    context = TASKS["fwe"](setting, "fwe", LENGTH, 0)
    ranked = [word for word, _ in Counter(text_of(context, " ").split(" ")).most_common(4)]
    assert ranked == ["...", *context.cases[0].golds] and all(re.fullmatch("[a-z]{6}", word) for word in ranked[1:])


def test_what_ruler_does_not_have_is_refused(setting: Setting) -> None:
    with pytest.raises(InputError, match="unknown RULER task 'qa_1'; valid: cwe, fwe, niah_multikey_1"):
        ruler_contexts(setting, ["qa_1"], [LENGTH], 1)
    for task, room in (("niah_single_1", 256), ("vt", 700), ("cwe", 700), ("fwe", 200)):
        with pytest.raises(LengthError):
            for context in ruler_contexts(setting, [task], [room], 1):
                context.build()
    assert len(TASKS) == 11


def test_a_form_keeps_the_turn_of_a_chat_model() -> None:
    chat = "{% for m in messages %}<s>{{ m.content }}</s>\n{% endfor %}{% if add_generation_prompt %}assistant\n{% endif %}"
    template = tiny_engine(chat_template=chat).template
    form = Form("Memorise it.\n", "Question: ", " It is", " Answer:")
    made = form.template(template)
    assert made.prefix + "Text.\n" + made.ask("Who?") + form.begin(template) == "<s>Memorise it.\nText.\nQuestion: Who?</s>\nassistant\n Answer: It is"


# Scores


@pytest.mark.parametrize(
    ("score", "answer", "golds", "expected"),
    [
        ("exact", " 48213\n", ["48213"], 1.0),
        ("exact", "48213.", ["48213"], 0.0),
        ("contains", "It is 48213.", ["48213"], 1.0),
        ("integer", "the key, 48213, or 7", ["48213"], 1.0),
        ("integer", "7 or 48213", ["48213"], 0.0),
        ("integer", "no key", ["48213"], 0.0),
        ("string_match_all", "abc, DEF", ["ABC", "def", "x1", "y2"], 0.5),
        ("string_match_all", "", ["ABC"], 0.0),
        ("string_match_part", "abc", ["ABC", "def"], 1.0),
        ("string_match_part", "ab\x00c", ["abc"], 0.0),
    ],
)
def test_scores(score: str, answer: str, golds: list[str], expected: float) -> None:
    assert SCORES[score](answer, golds) == expected
