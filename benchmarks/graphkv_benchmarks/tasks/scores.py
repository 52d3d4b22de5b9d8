"""Scores of the RAG sets beside `best_subspan_em`: exact match, word F1, MultiHop-RAG's own, letters of choices, final answers, class names."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

from ..scoring import before_end_marks, best_subspan_em, normalise

INSUFFICIENT = "Insufficient information"
"""MultiHop-RAG's gold answer of a question that the documents do not answer."""

_FINAL = re.compile(r"answer:\s*(.*)", re.IGNORECASE)
_QUOTED = re.compile(r'The answer to the question is "(.*?)"')
_CORRECT_LETTER = (re.compile(r"The correct answer is \(([A-D])\)"), re.compile(r"The correct answer is ([A-D])"))
# Behind a letter without brackets: the end of its line, or marks and then white space. Not a word ("A new approach"), not a further letter
# ("D.C."). Quotation marks are among them since the prompt shows the whole sentence in some.
_ENDS = r'(?=[).,:;"”]+(?:\s|\Z)|[^\S\n]*(?:\n|\Z))'
_SAID_LETTER = re.compile(rf"\b(?ai:answer)\b(?:\s+(?ai:is)\b)?\s*:?\s*(?:\(([A-D])\)|([A-D]){_ENDS})")
_HEAD_LETTER = re.compile(r'\A[\s"“\[]*(?:\(([A-D])\)|([A-D])(?:[):](?=\s)|[).,:;"”\]]*[^\S\n]*(?:\n|\Z)))')
_INITIAL = re.compile(r"\A\s*([A-D])\.\s+(.*)", re.DOTALL)
_LETTERS = "ABCD"
_WORD = re.compile(r"[^\W_]+")


def _golds(answers: str | Iterable[str]) -> list[str]:
    golds = [answers] if isinstance(answers, str) else list(answers)
    if not golds:
        raise ValueError("a score needs at least one gold answer, got none")
    return golds


def exact_match(prediction: str, answers: str | Iterable[str]) -> float:
    """1.0 if the prediction is one of the gold answers, both normalised as by `best_subspan_em`, else 0.0.

    The prediction is cut at an end mark. A gold answer of nothing but punctuation and articles never counts.

    Raises:
        ValueError: there is no gold answer.

    Example:
        >>> exact_match("The Rhine.<|eot_id|>", ["Rhine"]), exact_match("It is the Rhine", ["Rhine"])
        (1.0, 0.0)
    """
    given = normalise(before_end_marks(prediction))
    return float(any(gold and gold == given for gold in map(normalise, _golds(answers))))


def word_f1(prediction: str, answers: str | Iterable[str]) -> float:
    """The F1 of SQuAD: words that prediction and gold answer share, each counted as often as both have it; the best of the gold answers.

    Words are those of the normalised text. The prediction is cut at an end mark. Without a word on either side: 0.0.

    Raises:
        ValueError: there is no gold answer.

    Example:
        >>> word_f1("the river Rhine", ["Rhine", "Rhine river of Europe"])
        0.6666666666666666
    """
    given = Counter(normalise(before_end_marks(prediction)).split())
    best = 0.0
    for gold in _golds(answers):
        words = Counter(normalise(gold).split())
        shared = (given & words).total()
        if shared:
            best = max(best, 2 * shared / (given.total() + words.total()))
    return best


def last_answer(prediction: str, *, as_published: bool = False) -> str:
    """What follows the last ``answer:`` up to the end of its line; the whole prediction where there is none.

    Args:
        as_published: look for it before the prediction is cut at an end mark, as Graph-KV's code does; what a model writes behind its end can then count.

    Example:
        >>> last_answer("The drummer is Matt Flynn. Answer: 116\\n")
        '116'
    """
    text = prediction if as_published else before_end_marks(prediction)
    found = _FINAL.findall(text)
    return str(found[-1]) if found else text


def choice_letter(prediction: str, choices: Sequence[str] = (), *, as_published: bool = False) -> str | None:
    """The letter A to D of a multiple choice that a prediction names; None if it names none.

    LongBench-v2's code takes the first "The correct answer is (A)", else the first "The correct answer is A", after asterisks are taken
    out, and nothing else (`as_published`); it reads a B off "The correct answer is Berlin". Our default is the first of these that is there:

    1. the first letter behind "answer", "answer is" or "answer:" in any case: in brackets, or with the end of its line behind it, or
       ``).,:;"`` and white space
    2. a letter at the head: "(B) Rhine", "B) Rhine", "B: Rhine", or alone on the first line
    3. the text of one choice and no other, see :func:`named_choice`
    4. "B. Rhine" where text and choice B begin alike, one being as long as it likes; else it may be somebody's initial ("A. Smith wrote it")

    Args:
        prediction: the answer given. choices: the texts of A, B and so on; without them there is no 3 and 4.

    Example:
        >>> choice_letter("**The correct answer is (C)**"), choice_letter("(B) Rhine"), choice_letter("(B) Rhine", as_published=True)
        ('C', 'B', None)
        >>> choice_letter("A. Smith wrote it"), choice_letter("A. Smith wrote it", ["Smith wrote it alone", "Jones did"])
        (None, 'A')
    """
    if as_published:
        text = prediction.replace("*", "")
        return next((match[1] for pattern in _CORRECT_LETTER if (match := pattern.search(text))), None)
    text = before_end_marks(prediction).replace("*", "")
    if match := _SAID_LETTER.search(text) or _HEAD_LETTER.match(text):
        return match[1] or match[2]
    if (named := named_choice(text, choices)) is not None:
        return _LETTERS[list(choices).index(named)]
    if (match := _INITIAL.match(text)) and (place := _LETTERS.index(match[1])) < len(choices):
        said, choice = (" ".join(_words(words)) for words in (match[2], choices[place]))
        return match[1] if said and choice and (choice.startswith(said) or said.startswith(choice)) else None
    return None


def _words(text: str) -> tuple[str, ...]:
    """Runs of letters and digits, in one spelling of Unicode and without case."""
    return tuple(_WORD.findall(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())))


def named_choice(prediction: str, choices: Sequence[str]) -> str | None:
    """The one choice that a prediction names; None if it names none, or several.

    Whole words are compared, without case; what is not a letter or a digit only parts words (``Rule_Learning`` is "rule learning"). Where
    one choice's name is part of another's, the longer one is meant. The prediction is cut at an end mark.

    Args:
        prediction: the answer given. choices: the names, each another one.

    Example:
        >>> named_choice("It is about neural networks.", ["Neural_Networks", "Theory"])
        'Neural_Networks'
        >>> named_choice("Diabetes type 1", ["Diabetes", "Diabetes Type 1"]), named_choice("Theory or Case_Based", ["Theory", "Case_Based"])
        ('Diabetes Type 1', None)
    """
    words = _words(before_end_marks(prediction))
    found = []
    for choice in dict.fromkeys(choices):
        name = _words(choice)
        found += [(start, start + len(name), choice) for start in range(len(words) - len(name) + 1) if name and words[start : start + len(name)] == name]
    named = {choice for start, end, choice in found if not any(a <= start and end <= b and b - a > end - start for a, b, _ in found)}
    return named.pop() if len(named) == 1 else None


def quoted_answer(prediction: str) -> str:
    """MultiHop-RAG's extraction: what stands in ``The answer to the question is "..."``, else the whole prediction.

    Example:
        >>> quoted_answer('The answer to the question is "Yes".'), quoted_answer("The answer is: Yes")
        ('Yes', 'The answer is: Yes')
    """
    match = _QUOTED.search(prediction)
    return match[1] if match else prediction


def shares_a_word(prediction: str, gold: str) -> bool:
    """MultiHop-RAG's hit: any word in common, words parted by white space only and compared in lower case.

    "Yes." is not "yes", and "the Verge" is hit by any prediction with a "the": use `best_subspan_em` for a score to rely on.

    Example:
        >>> shares_a_word("The answer is yes", "Yes"), shares_a_word("The Rhine", "the Verge"), shares_a_word("Yes.", "Yes")
        (True, True, False)
    """
    return not set(prediction.lower().split()).isdisjoint(gold.lower().split())


def _scores(hits: float, given: float, wanted: float, right: float, count: float) -> dict[str, float]:
    precision, recall = hits / given if given else 0.0, hits / wanted if wanted else 0.0
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return {"precision": precision, "recall": recall, "f1": f1, "accuracy": right / count if count else 0.0}


def multihop_rag_as_published(pairs: Sequence[tuple[str, str]]) -> dict[str, float]:
    """Precision, recall, F1 and accuracy as MultiHop-RAG's ``qa_evaluate.py`` counts them.

    Every miss is counted as a false positive, a false negative and a true negative at once. So precision, recall and F1 are all the
    share t of hits (:func:`shares_a_word` after :func:`quoted_answer`), and accuracy is 1 / (3 - 2t): never below a third.

    Args:
        pairs: (prediction, gold answer) of each question. Pairs with an empty gold answer are left out, as in that code.

    Example:
        >>> multihop_rag_as_published([("yes", "Yes"), ("no", "Yes")])
        {'precision': 0.5, 'recall': 0.5, 'f1': 0.5, 'accuracy': 0.5}
    """
    kept = [(prediction, gold) for prediction, gold in pairs if gold]
    hits = sum(shares_a_word(quoted_answer(prediction) if "The answer" in prediction else prediction, gold) for prediction, gold in kept)
    misses = len(kept) - hits
    return _scores(hits, len(kept), len(kept), hits + misses, hits + 3 * misses)


def abstains(prediction: str) -> bool:
    """Whether a prediction says that the information is insufficient, in MultiHop-RAG's words.

    Example:
        >>> abstains("The answer is: Insufficient Information.")
        True
    """
    return best_subspan_em(prediction, INSUFFICIENT) == 1.0


def multihop_rag_metrics(pairs: Sequence[tuple[str, str]]) -> dict[str, float]:
    """What the four names usually mean, with "insufficient information" as the answer that is none.

    precision: of the predictions that do not abstain, the right ones. recall: of the questions that have an answer, those answered right.
    f1: of these two. accuracy: of all questions, those answered right or rightly left. Right is `best_subspan_em`. 0.0 where there is
    nothing to divide by.

    Args:
        pairs: (prediction, gold answer) of each question.

    Example:
        >>> multihop_rag_metrics([("yes", "Yes"), ("no", "Insufficient information."), ("Insufficient information", "Yes")])
        {'precision': 0.5, 'recall': 0.5, 'f1': 0.5, 'accuracy': 0.3333333333333333}
    """
    answerable = [not abstains(gold) for _, gold in pairs]
    silent = [abstains(prediction) for prediction, _ in pairs]
    hits = sum(best_subspan_em(p, g) for (p, g), one, none in zip(pairs, answerable, silent, strict=True) if one and not none)
    left = sum(none and not one for one, none in zip(answerable, silent, strict=True))
    return _scores(hits, len(pairs) - sum(silent), sum(answerable), hits + left, len(pairs))
