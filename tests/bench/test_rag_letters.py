"""Letters and names of choices: 1,000 generated answers against a reading of the rules in another style, and cases by hand."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Sequence

from hypothesis import given
from score_helpers import MARKS, SEEDS, cut, drawn, is_word_character, runs, thousand

from graphkv_benchmarks.runner.case import Question
from graphkv_benchmarks.tasks.rag import RagQA
from graphkv_benchmarks.tasks.scores import choice_letter, named_choice
from graphkv_benchmarks.tasks.topic import TopicTask


def plain(text: str) -> list[str]:
    """Words of letters and digits only, in one spelling and without case."""
    return [run for word, run in runs(unicodedata.normalize("NFKC", text).casefold(), str.isalnum) if word]


def named_in(prediction: str, labels: Sequence[str]) -> list[str]:
    """Longest names first, each taken out of the words of the prediction wherever it stands; what is left over names the rest."""
    words: list[str] = plain(cut(prediction))
    named = []
    for label in sorted(labels, key=lambda label: -len(plain(label))):
        name = plain(label)
        for start in range(len(words)):
            if name and words[start : start + len(name)] == name:
                words[start : start + len(name)] = ["-"] * len(name)
                named.append(label)
    return sorted(set(named))


def only(named: list[str]) -> str | None:
    return named[0] if len(named) == 1 else None


_LABELS = ["Rule_Learning", "Learning", "Theory", "Type 1", "Diabetes Type 1", "Diabetes", "Ａ b", "___"]
LABELS = SEEDS.map(lambda seed: random.Random(seed).sample(_LABELS, 1 + seed % 5))
_NAMES = ["rule learning", "Rule", "LEARNING", "theory", "theoretical", "type 1", "Type-1", "diabetes", "a B", ",", "and", "<|eot_id|>"]


@thousand
@given(SEEDS.map(drawn(_NAMES, 6)), LABELS)
def test_a_named_choice_is_its_definition(prediction: str, labels: list[str]) -> None:
    assert named_choice(prediction, labels) == only(named_in(prediction, labels))


_CLASSES = ["Case Based", "case-based", "Neural_Networks", "theory", "Theory.", "Rule", "learning", "Learning", "reinforcement", "Genetic Algorithms", "or"]


@thousand
@given(SEEDS.map(drawn([*_CLASSES, "\n", MARKS[0]], 6)), SEEDS.map(lambda seed: seed % 7))
def test_topic_scores_are_their_definition(prediction: str, right: int) -> None:
    """Strict: the names taken out of the answer are the right one alone. First: class by class down the list, each looked for by itself."""
    strict, first = TopicTask("cora", "nowhere"), TopicTask("cora", "nowhere", answers="first")
    question = Question("1", "?", (strict.classes[right],), choices=strict.classes)
    assert strict.score(prediction, question) == float(named_in(prediction, strict.classes) == [strict.classes[right]])
    counted = None
    for name in reversed(strict.classes):
        if named_in(prediction, [name]):
            counted = name
    assert first.score(prediction, question) == float(counted == strict.classes[right])


def published_letter(prediction: str) -> str | None:
    """The first place behind the words where the letter stands, with brackets before without."""
    text = "".join(letter for letter in prediction if letter != "*")
    head, found = "The correct answer is ", None
    for opening, closing in (("(", ")"), ("", "")):
        places = [place for place in range(len(text)) if text.startswith(head + opening, place)]
        letters = [text[place + len(head + opening) :][:1] for place in places if text[place + len(head + opening) + 1 :].startswith(closing)]
        found = found or next((letter for letter in letters if letter and letter in "ABCD"), None)
    return found


def spaces(text: str, lines: bool = True) -> int:
    """How many characters of white space a text begins with; line ends among them or not."""
    return next((i for i, letter in enumerate(text) if not letter.isspace() or (letter == "\n" and not lines)), len(text))


def in_brackets(text: str) -> str | None:
    return text[1] if len(text) > 2 and text[0] == "(" and text[1] in "ABCD" and text[2] == ")" else None


def bare(text: str, marks: str, more: bool) -> str | None:
    """A letter at the head, with nothing more than marks on its line; or, where there may be more, with white space behind its marks."""
    if not text or text[0] not in "ABCD":
        return None
    rest = text[1:].lstrip(marks)
    behind = rest[spaces(rest, lines=False) :]
    marked = rest != text[1:]
    alone = not behind or behind[0] == "\n"
    return text[0] if (marked and more and (not rest or rest[0].isspace())) or (alone and not (marked and more)) else None


def read_letter(prediction: str, choices: Sequence[str]) -> str | None:
    """Character by character, from the rules one after the other: a letter said to be the answer, at the head, the text of a choice, an initial."""
    text = "".join(letter for letter in cut(prediction) if letter != "*")
    for place in range(len(text)):
        rest = text[place:]
        if rest[:6].translate(LOWER) != "answer" or (place and is_word_character(text[place - 1])) or is_word_character(rest[6:7] or " "):
            continue
        rest = rest[6:]
        after = rest[spaces(rest) :]
        if after != rest and after[:2].translate(LOWER) == "is" and not is_word_character(after[2:3] or " "):
            rest = after[2:]
        rest = rest[spaces(rest) :].removeprefix(":")
        rest = rest[spaces(rest) :]
        if found := in_brackets(rest) or bare(rest, ').,:;"”', more=True):
            return found
    head = text
    while head and (head[0].isspace() or head[0] in '"“['):
        head = head[1:]
    if found := in_brackets(head) or bare(head, ').,:;"”]', more=False):
        return found
    if len(head) > 2 and head[0] in "ABCD" and head[1] in "):" and head[2].isspace():
        return head[0]
    if (named := only(named_in(text, choices))) is not None:
        return "ABCD"[choices.index(named)]
    start = text[spaces(text) :]
    if len(start) > 2 and start[0] in "ABCD" and start[1] == "." and start[2].isspace() and "ABCD".index(start[0]) < len(choices):
        said, choice = " ".join(plain(start[3:])), " ".join(plain(choices["ABCD".index(start[0])]))
        if said and choice and (said[: len(choice)] == choice or choice[: len(said)] == said):
            return start[0]
    return None


LOWER = {ord(letter): letter.lower() for letter in "ANSWERI"}
_CHOICES = ["Rhine", "the Elbe and the Rhine", "A new approach", "Two rivers"]
_SAID = [
    "The correct answer is", "The correct answer is", "answer:", "Answer", "is", "ANSWER IS", "an\u017fwer", ":", "(A)", "(B)", "(C)", "A", "B", "C", "D",
    "A.", "B.", "D,", "C:", "B)", "D.C.", "(", ")", ".", "*", "**", '"', "“", "[", "]", "\n", " \n", "\t", "new approach", "Rhine", "rhine", "Elbe",
    "the Elbe and", "two rivers", "Smith wrote it", "E", "(E)", MARKS[1],
]  # fmt: skip
SAYING = SEEDS.map(drawn(_SAID, 6))


@thousand
@given(SAYING)
def test_a_choices_letter_is_its_definition(prediction: str) -> None:
    assert choice_letter(prediction) == read_letter(prediction, [])
    assert choice_letter(prediction, _CHOICES) == read_letter(prediction, _CHOICES)
    assert choice_letter(prediction, as_published=True) == published_letter(prediction)


@thousand
@given(SAYING, SEEDS.map(lambda seed: random.Random(seed).sample(_CHOICES, 4)), SEEDS.map(lambda seed: "ABCD"[seed % 4]))
def test_longbenchs_score_is_its_definition(prediction: str, choices: list[str], right: str) -> None:
    """1 where the letter read by the rules is the right one, with the choices in any order; and so by the released rule."""
    question = Question("1", "?", (right,), choices=tuple(choices))
    for as_published, letter in ((False, read_letter(prediction, choices)), (True, published_letter(prediction))):
        assert RagQA("longbench-v2", "nowhere", as_published=as_published).score(prediction, question) == float(letter == right)


# By hand


def test_letters_by_hand() -> None:
    for text, letter, published in (
        ("The correct answer is (C)", "C", "C"),
        ("**The correct answer is** (D).", "D", "D"),
        ("The correct answer is B", "B", "B"),
        ("The correct answer is A, or rather: The correct answer is (B)", "A", "B"),  # the first letter
        ("The correct answer is A new approach to X", None, "A"),
        ('"The correct answer is A."', "A", "A"),
        ("The correct answer is A\n\nFor it", "A", "A"),
        ("The correct answer is D.C.", None, "D"),
        ("The correct answer is A approach; the answer: B", "B", "A"),
        ("D.C. has two rivers", None, None),
        ("A. Smith wrote it", None, None),
        ("B. Rhine", None, None),
        ("B: Rhine", "B", None),
        ("B)\nRhine", "B", None),
        ("The correct answer is Berlin", None, "B"),
        ("the answer is: (a)", None, None),
        ("THE CORRECT ANSWER IS (A)", "A", None),
        ("Answer: (B)", "B", None),
        ("(B) Rhine", "B", None),
        (" C. ", "C", None),
        ("B", "B", None),
        ("Both A and B", None, None),
        ("E", None, None),
        ("The correct answer is (E)", None, None),
        ("A river in Europe", None, None),
        ("<|eot_id|>The correct answer is (A)", None, "A"),
        ("", None, None),
    ):
        assert (choice_letter(text), choice_letter(text, as_published=True)) == (letter, published), text
    choices = ("Rhine", "Elbe", "A new approach to rivers", "Smith")
    for text, letter in (
        ("B. Rhine", "A"),  # the text of a choice, before the letter
        ("B. Elbe, not the Rhine", "B"),
        ("(B) Rhine", "B"),
        ("The correct answer is A new approach to rivers", "C"),
        ("C. A new app", "C"),  # cut off by the cap
        ("A. Jones wrote it", None),
        ("A. Smith wrote it", "D"),
        ("D. ...", None),
        ("Rhine or Elbe", None),
    ):
        assert choice_letter(text, choices) == letter, text


def test_names_by_hand() -> None:
    cora = ["Case_Based", "Neural_Networks", "Rule_Learning", "Reinforcement_Learning", "Theory"]
    assert named_choice("The paper belongs to Rule Learning.", cora) == "Rule_Learning"
    assert named_choice("neural-networks", cora) == "Neural_Networks" and named_choice("theoretical", cora) is None
    assert named_choice("Theory, that is: theory", cora) == "Theory" and named_choice("theory and case based", cora) is None
    pubmed = ["Diabetes Mellitus, Experimental", "Diabetes Mellitus Type 1", "Diabetes Mellitus Type 2"]
    assert named_choice("diabetes mellitus type 1", pubmed) == pubmed[1] and named_choice("Diabetes Mellitus", pubmed) is None
    assert named_choice("Type 1 and type 11", ["Type 1", "Type 11"]) is None and named_choice("type 11", ["Type 1", "Type 11"]) == "Type 11"
    assert named_choice("STRASSE", ["Straße"]) == "Straße" and named_choice("cafe\u0301", ["Café"]) == "Café" and named_choice("", ["x"]) is None
    assert named_choice("a b", ["A b", "a-B"]) is None  # two choices of the same words
    assert named_choice("Type 1 instead of Diabetes Type 1", ["Type 1", "Diabetes Type 1"]) is None  # the shorter one stands by itself too
