"""Scores of answers: 1,000 generated pairs against a reading of each definition in another style, and cases by hand."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from score_helpers import MARKS, SEEDS, cut, drawn, thousand, words_of

from graphkv_benchmarks.scoring import before_end_marks, best_subspan_em, normalise
from graphkv_benchmarks.tasks.scores import (
    abstains,
    exact_match,
    last_answer,
    multihop_rag_as_published,
    multihop_rag_metrics,
    quoted_answer,
    shares_a_word,
    word_f1,
)

# Words that meet often, beside letters of many kinds: pairs of random texts would hardly ever share anything. Drawn from a seed, since a
# thousand texts of hypothesis' own take ten times as long.
_WORDS = [
    "the", "a", "an", "The", "A", "rhine", "Rhine", "river", "theory", "panama", "1,234", "12", "2", "-", ".", "_", "new_york", "ß", "ı", "İ", "é",
    "e\u0301", "Ａ", "the-end", "answer:", "Answer:\n", "an\u017fwer: ", "The answer is", "The correct answer is (A)",
    'The answer to the question is "', 'Rhine" and', "(A)", "(B)", "B.", "Yes", "yes.", "Insufficient Information", "\n", " ", "\u3000", "\u2028", "\x1c",
    "\x00", "’", "😀", "अ", "漢", "ﬁ", *MARKS,
]  # fmt: skip
_OTHERS = "".join(map(chr, range(32, 127))) + "éßſİıǅΣς\u0300²½٣_一\u00a0\u200b\ufeff"


def _text(seed: int) -> str:
    rng = random.Random(seed)
    parts = [rng.choice(_WORDS) if rng.random() < 0.8 else rng.choice(_OTHERS) for _ in range(rng.randrange(9))]
    return rng.choice((" ", "")).join(parts)


TEXTS = SEEDS.map(_text)
GOLDS = SEEDS.map(lambda seed: [_text(seed + i) for i in range(1 + seed % 3)])
PAIRS = SEEDS.map(lambda seed: [(_text(2 * seed + 2 * i), _text(2 * seed + 2 * i + 1)) for i in range(seed % 7)])


@thousand
@given(TEXTS, GOLDS)
def test_best_subspan_em_is_its_definition(prediction: str, golds: list[str]) -> None:
    """1. Ours. 2. A loop over every place of the prediction. 3. The official code's way, which a gold without letters always passes."""
    given_text = " ".join(words_of(cut(prediction)))
    found = 0.0
    official = 0.0
    for gold in golds:
        wanted = " ".join(words_of(gold))
        for place in range(len(given_text) - len(wanted) + 1):
            if given_text[place : place + len(wanted)] == wanted:
                official = 1.0
                if wanted:
                    found = 1.0
    assert best_subspan_em(prediction, golds) == found
    assert best_subspan_em(prediction, golds, blank_counts=True) == official
    assert normalise(prediction) == " ".join(words_of(prediction))


@thousand
@given(TEXTS, GOLDS)
def test_exact_match_is_its_definition(prediction: str, golds: list[str]) -> None:
    assert exact_match(prediction, golds) == float(any(words_of(gold) and words_of(gold) == words_of(cut(prediction)) for gold in golds))
    assert exact_match(prediction, golds) <= best_subspan_em(prediction, golds)


@thousand
@given(TEXTS, GOLDS)
def test_word_f1_is_its_definition(prediction: str, golds: list[str]) -> None:
    """2 P R / (P + R) of the best gold, with the shared words taken out of a list one by one."""
    best = 0.0
    for gold in golds:
        left, shared = words_of(gold), 0
        length = len(left)
        for word in words_of(cut(prediction)):
            if word in left:
                left.remove(word)
                shared += 1
        if shared:
            precision, recall = shared / len(words_of(cut(prediction))), shared / length
            best = max(best, 2 * precision * recall / (precision + recall))
    assert word_f1(prediction, golds) == pytest.approx(best, abs=1e-12)


@thousand
@given(TEXTS, st.booleans())
def test_the_last_answer_is_its_definition(prediction: str, as_published: bool) -> None:
    """Walk from the front: behind each "answer:" white space is passed over, then the line is taken, and the search goes on behind it."""
    text = prediction if as_published else cut(prediction)
    found, place = text, 0
    while place < len(text):
        if "".join(map(folded, text[place : place + 7])) != "answer:":
            place += 1
            continue
        place += 7
        while place < len(text) and text[place].isspace():
            place += 1
        end = text.find("\n", place)
        found = text[place : len(text) if end < 0 else end]
        place += len(found)
    assert last_answer(prediction, as_published=as_published) == found


def folded(letter: str) -> str:
    """As a pattern without case reads the letters of "answer": also ſ for s."""
    return "s" if letter == "\u017f" else letter.lower()


@thousand
@given(TEXTS, TEXTS)
def test_a_word_in_common_is_its_definition(prediction: str, gold: str) -> None:
    assert shares_a_word(prediction, gold) == any(one == other for one in prediction.lower().split() for other in gold.lower().split())


def holds(text: str, gold: str) -> bool:
    """Whether one text stands in the other, both normalised; found by trying every place."""
    inside, wanted = " ".join(words_of(cut(text))), " ".join(words_of(gold))
    return bool(wanted) and any(inside[place : place + len(wanted)] == wanted for place in range(len(inside)))


@thousand
@given(PAIRS)
def test_multihop_rags_own_numbers_are_their_definition(pairs: list[tuple[str, str]]) -> None:
    """Pair by pair: of a prediction with "The answer" the first quotation that ends on its line is taken, where one is introduced; then every
    word is held against every word. Each miss is a false positive, a false negative and a true negative. The numbers come from the four counts."""
    tp = fp = fn = tn = 0
    head = 'The answer to the question is "'
    for prediction, gold in pairs:
        if not gold:
            continue
        text = prediction
        for place in range(len(prediction)):
            line = prediction[place + len(head) :].split("\n")[0]
            if prediction[place : place + len(head)] == head and '"' in line:
                text = line.split('"')[0]
                break
        if any(one == other for one in text.lower().split() for other in gold.lower().split()):
            tp += 1
        else:
            fp, fn, tn = fp + 1, fn + 1, tn + 1
    found = multihop_rag_as_published(pairs)
    share = tp / (tp + fp) if tp + fp else 0.0
    assert found["precision"] == found["recall"] == share and found["f1"] == pytest.approx(share)
    assert found["accuracy"] == pytest.approx((tp + tn) / (tp + tn + fp + fn) if tp + fp else 0.0)
    if tp + fp:
        assert found["accuracy"] == pytest.approx(1 / (3 - 2 * share)) and found["accuracy"] >= 1 / 3


@thousand
@given(PAIRS)
def test_multihop_rags_usual_numbers_are_their_definition(pairs: list[tuple[str, str]]) -> None:
    """A table of four kinds of question and prediction, with how many there are and how many predictions hold the answer."""
    none = "Insufficient information"
    table = {(answerable, silent): [0, 0] for answerable in (False, True) for silent in (False, True)}
    for prediction, gold in pairs:
        kind = (not holds(gold, none), holds(prediction, none))
        table[kind][0] += 1
        table[kind][1] += holds(prediction, gold)
    said, asked = table[True, False][0] + table[False, False][0], table[True, False][0] + table[True, True][0]
    precision = table[True, False][1] / said if said else 0.0
    recall = table[True, False][1] / asked if asked else 0.0
    found = multihop_rag_metrics(pairs)
    assert found["precision"] == pytest.approx(precision) and found["recall"] == pytest.approx(recall)
    assert found["f1"] == pytest.approx(2 * precision * recall / (precision + recall) if precision + recall else 0.0)
    assert found["accuracy"] == pytest.approx((table[True, False][1] + table[False, True][0]) / len(pairs) if pairs else 0.0)


_SILENT = ["Insufficient", "information", "INSUFFICIENT", "Information.", "insufficient-", "the", "sufficient", "\n", "in", "formation", ".", "Yes", *MARKS]


@thousand
@given(SEEDS.map(drawn(_SILENT, 7)))
def test_an_abstention_is_its_definition(prediction: str) -> None:
    """Each word that ends in the one, and whether the next begins with the other."""
    words = words_of(cut(prediction))
    assert abstains(prediction) == any(one.endswith("insufficient") and next.startswith("information") for one, next in itertools.pairwise(words))


# By hand


@pytest.mark.parametrize(
    ("prediction", "golds", "score", "official"),
    [
        ("The Theory of an Apple", ["theory of apple"], 1.0, 1.0),  # articles go as words, never inside of one
        ("a", ["the"], 0.0, 1.0),  # a gold of an article only
        ("anything", ["..."], 0.0, 1.0),
        ("anything", ["", "thing"], 1.0, 1.0),  # a substring of letters, not of words
        ("", ["Rhine"], 0.0, 0.0),
        ("", [""], 0.0, 1.0),
        ("It costs 1,234.50 euro", ["123450"], 1.0, 1.0),  # punctuation goes without a space
        ("1 234", ["1234"], 0.0, 0.0),
        ("15", ["5"], 1.0, 1.0),
        ("New_York", ["new york"], 0.0, 0.0),  # the underscore is punctuation
        ("New_York", ["newyork"], 1.0, 1.0),
        ("U.S.A.", ["usa"], 1.0, 1.0),
        ("no<|im_end|> Rhine", ["rhine"], 0.0, 0.0),
        ("no<|eot_id|> Rhine <|im_end|>", ["rhine"], 0.0, 0.0),
        ("<|im_end|>", ["im end"], 0.0, 0.0),
        ("Café", ["cafe\u0301"], 0.0, 0.0),  # composed and decomposed letters are two spellings, as in the official code
        ("Ｒｈｉｎｅ", ["rhine"], 0.0, 0.0),  # full width too
        ("STRASSE", ["straße"], 0.0, 0.0),  # lower case, not case folding
        ("DIYARBAKIR", ["dıyarbakır"], 0.0, 0.0),
        ("“Rhine”", ["rhine"], 1.0, 1.0),  # quotation marks beyond ASCII stay, around the words
        ("Rhine’s", ["rhines"], 0.0, 0.0),
        ("one\u00a0two\u3000three", ["one two three"], 1.0, 1.0),
        ("the\tquick\n\nfox", ["Quick  fox"], 1.0, 1.0),
    ],
)
def test_best_subspan_em_by_hand(prediction: str, golds: list[str], score: float, official: float) -> None:
    assert best_subspan_em(prediction, golds) == score
    assert best_subspan_em(prediction, golds, blank_counts=True) == official


def test_the_other_scores_by_hand() -> None:
    assert exact_match("The Rhine.", "rhine") == 1.0 and exact_match("Rhine river", "rhine") == 0.0 and exact_match("", ["the"]) == 0.0
    assert word_f1("the rhine rhine", ["rhine"]) == pytest.approx(2 / 3) and word_f1("rhine", ["elbe", "rhine rhine rhine"]) == 0.5
    assert word_f1("", [""]) == word_f1("", ["x"]) == word_f1("x", ["the"]) == 0.0
    for score in (exact_match, word_f1):
        with pytest.raises(ValueError, match="at least one gold answer"):
            score("x", [])
    assert before_end_marks("a<|eot_id|>b<|im_end|>c") == "a"
    assert abstains("Insufficient information.") and not abstains("information: insufficient")


def test_final_answers_by_hand() -> None:
    for text, final in (
        ("Answer: 4\nno, ANSWER:   5 \nthanks", "5 "),
        ("answer:\n\n7\n8", "7"),
        ("no such word", "no such word"),
        ("", ""),
        ("Answer:", ""),
        ("**Answer:** 5", "** 5"),
        ("Answer: 5<|eot_id|>\nAnswer: 6", "5"),
    ):
        assert last_answer(text) == final
    published = last_answer("Answer: 5<|eot_id|>\nAnswer: 6", as_published=True)
    assert published == "6" and best_subspan_em(last_answer("Answer: 5<|eot_id|> Answer: 6", as_published=True), "5") == 1.0


def test_multihop_rag_by_hand() -> None:
    assert quoted_answer('The answer to the question is "Sam" and "Tom"') == "Sam" and quoted_answer('The answer is "Sam"') == 'The answer is "Sam"'
    pairs = [("The answer is: the Verge", "The New York Times"), ("Yes.", "Yes"), ("No", "no"), ("x", "")]
    found = multihop_rag_as_published(pairs)
    assert found == {"precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3, "accuracy": 3 / 5}
    assert multihop_rag_metrics(pairs[:3])["accuracy"] == 2 / 3
    empty: dict[str, Any] = {"precision": 0.0, "recall": 0.0, "f1": 0.0, "accuracy": 0.0}
    assert multihop_rag_as_published([]) == multihop_rag_metrics([]) == empty
