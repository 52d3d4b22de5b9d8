"""What both read: texts with a question each, the prompt around them, and the models."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from graphkv.errors import InputError
from graphkv.model import EMBEDDED
from graphkv.prompt import PromptTemplate, tokenize

from ..citation_world.needles import make_needles
from ..citation_world.world import Question, make_world
from ..ttft.row import QWEN, load

TEMPLATE = PromptTemplate(prefix="<s>\n\n", document="{title}\n{text}", untitled="{text}", question="\n\nQuestion:\n\n{question}\n\nAnswer:")
"""The prompt of both. The package looks for context and question as whole sentences of the prompt: without an empty line around each it fails."""

CHAT_TEMPLATE = "{{ messages[-1].content }}"
"""Given to the package, which renders every prompt through a chat template: nothing but the prompt."""


@dataclass(frozen=True)
class Case:
    """One text, one question; `answer` is in the text."""

    id: str
    text: str
    question: str
    answer: str


@dataclass(frozen=True)
class Row:
    """One model at one window, over some cases.

    Attributes:
        model: ``embedded``, :data:`QWEN` or a folder. dtype: its weights. cases: how many. tokens: about the length of each text.
        window, top_tokens, phrase: the settings of the method. repeats: timed runs of each side.
    """

    model: str
    dtype: str
    cases: int
    tokens: int
    window: int = 1024
    top_tokens: int = 300
    phrase: int = 8
    repeats: int = 3

    @property
    def settings(self) -> dict[str, int]:
        return {"window": self.window, "top_tokens": self.top_tokens, "phrase": self.phrase}


ROWS = (
    Row("embedded", "float32", cases=50, tokens=3500),
    Row(QWEN, "bfloat16", cases=3, tokens=2000),
    Row(QWEN, "bfloat16", cases=1, tokens=4400, window=4096),
)
"""What is measured by default. The last one is as long as 24 GiB of memory allow: for 4,000 tokens the package holds 11 GiB of attention weights."""


def rows_of(models: Sequence[str] | None, windows: Sequence[int] | None) -> list[Row]:
    """A row for every model at every window: of :data:`ROWS` where it is one of them, else like the first row of that model.

    A model that is none of these is read in bfloat16, over the cases of the embedded one.

    Example:
        >>> [(row.model, row.window, row.cases) for row in rows_of(["embedded", "some/folder"], [1024, 512])]
        [('embedded', 1024, 50), ('embedded', 512, 50), ('some/folder', 1024, 50), ('some/folder', 512, 50)]
    """
    found: list[Row] = []
    for model in dict.fromkeys(models or [row.model for row in ROWS]):
        known = [row for row in ROWS if row.model == model] or [replace(ROWS[0], model=model, dtype="bfloat16")]
        measured = {row.window: row for row in known}
        found += [measured.get(size, replace(known[0], window=size)) for size in dict.fromkeys(windows)] if windows else known
    return found


def make_cases(count: int, tokens: int, seed: int, text: str | None = None) -> list[Case]:
    """Needles in filler and papers of a citation world, by turns; with a `text` of the user's own, stretches of it with a needle in each instead.

    Held-out names. Every text is cut at a sentence's end at about `tokens` tokens of the embedded model; what is asked for stands before the cut.

    Raises:
        InputError: the user's text is too short for one case, or the invented ones for a question.
    """
    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED)
    cases = []
    for i in range(count):
        rng = random.Random(f"infini-retri {seed} {i}")
        if text is not None:
            cases.append(_hidden(f"text{i}", text, tokens, rng, tokenizer))
            continue
        numbers = iter(range(10_000 * (seed + 1) + 100 * i, 10_000 * (seed + 1) + 100 * (i + 1)))
        inside: list[Question] = []
        while not inside:
            made, questions = _invented(i % 2 == 0, tokens, numbers, tokenizer)
            inside = [question for question in questions if question.answer in made]
        asked = rng.choice(inside)
        cases.append(Case(f"{'needle' if i % 2 == 0 else 'papers'}{i}", made, asked.question, asked.answer))
    return cases


def _invented(needles: bool, tokens: int, numbers: Iterator[int], tokenizer: Any) -> tuple[str, list[Question]]:
    """Worlds one after the other, cut at the wanted length, and the questions of the first. Raises InputError when the numbers are used up."""
    made, questions = "", list[Question]()
    while len(tokenize(tokenizer, made)) < tokens:
        number = next(numbers, None)
        if number is None:
            raise InputError(f"no hundred invented worlds make a text of {tokens} tokens with an answer in it: choose another length")
        world = make_needles(number, words=tokens, held_out=True) if needles else make_world(number, documents=12, held_out=True)
        questions = questions or world.questions
        made += ("\n\n" if made else "") + "\n\n".join(paper.segment.strip() for paper in world.papers)
    return _cut(made, tokens, tokenizer), questions


def _hidden(name: str, text: str, tokens: int, rng: random.Random, tokenizer: Any) -> Case:
    """A needle between two sentences of a stretch of the user's text."""
    world = make_needles(rng.randrange(10**6), words=1, held_out=True, needles=1)
    asked = world.questions[0]
    needle = next(s + "." for s in world.papers[0].text.split(". ") if asked.answer in s).replace("..", ".")
    start = rng.randrange(max(1, len(text) - 5 * tokens))
    stretch = _cut(text[start:].partition(". ")[2], tokens, tokenizer)
    ends = [i + 1 for i in range(len(stretch) - 1) if stretch[i : i + 2] == ". "]
    if not ends:
        raise InputError("the text has no two sentences to hide a needle between: give a longer one")
    place = rng.choice(ends)
    return Case(name, f"{stretch[:place]} {needle}{stretch[place:]}", asked.question, asked.answer)


def _cut(text: str, tokens: int, tokenizer: Any) -> str:
    """The beginning of a text, up to the sentence in which it has so many tokens."""
    ends = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    if len(ends) <= tokens:
        return text.strip()
    stop = text.find(". ", ends[tokens][0])
    return text[: stop + 1 if stop >= 0 else len(text)].strip()


def job(row: Row, cases: list[Case], model: Path, threads: int, max_new_tokens: int) -> dict[str, Any]:
    """What a runner is told; plain JSON, since the package's environment has no graphkv."""
    return {
        "model": str(model),
        "dtype": row.dtype,
        "threads": threads,
        "chat_template": CHAT_TEMPLATE,
        "prompt": TEMPLATE.prefix + "{context}" + TEMPLATE.question,
        "settings": row.settings,
        "max_new_tokens": max_new_tokens,
        "warm_up": asdict(make_cases(1, 600, seed=99)[0]),
        "cases": [asdict(case) for case in cases],
    }


def model_folder(row: Row, folder: Path, seed: int) -> Path:
    """Where both load the row's model from. The random one is written into `folder` once, with the embedded model's tokenizer: about 1 GB."""
    if row.model == "embedded":
        return EMBEDDED
    if row.model != QWEN:
        return Path(row.model)
    place = folder / f"{QWEN}-{row.dtype}"
    if not (place / "config.json").exists():
        made = load(QWEN, row.dtype, seed)
        made.tokenizer.save_pretrained(place)
        made.model.save_pretrained(place)
    return place
