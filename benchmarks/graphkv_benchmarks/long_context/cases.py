"""What is asked: cases (a question with its gold answers) about contexts (documents of a wanted length)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from graphkv.prompt import INSTRUCTION, PromptTemplate

Documents = list[dict[str, Any]]


@dataclass(frozen=True)
class Case:
    """One question.

    Attributes:
        id: unique within a run. task: the row of the tables that it counts in. depth: where its answer stands, from 0 (first) to 1
            (last); None where that means nothing.
        golds: the gold answers; what a task makes of several is its score's affair.
    """

    id: str
    task: str
    question: str
    golds: tuple[str, ...]
    depth: float | None = None


@dataclass(frozen=True)
class Form:
    """How a benchmark words its prompt around the model's own template: `instruction` before the documents, `head` before the question.

    Attributes:
        answer: the first words of the answer, which are given. Their `head` ("Answer:", say) is left out where the template has its own.
    """

    instruction: str
    question_head: str = ""
    answer: str = ""
    answer_head: str = ""

    def template(self, template: PromptTemplate) -> PromptTemplate:
        """The model's template with this wording in it.

        A template with a place for documents keeps its marks around documents and question, so that a model is asked as it was
        trained; of any other only the turn is kept, and between its marks stands the benchmark's text, letter by letter.

        Example:
            >>> plain = PromptTemplate("<s>", "{title}\\n{text}\\n\\n", "{text}\\n\\n", "Question: {question}\\nAnswer:", "plain")
            >>> form = Form("Memorise it.\\n", "Question: ")
            >>> form.template(plain).prefix, form.template(plain).ask("Who?")
            ('<s>Memorise it.\\n', 'Question: Who?')
        """
        if template.origin in ("documents", "custom"):
            return PromptTemplate(template.prefix + self.instruction, template.document, template.untitled, template.question, template.origin)
        head = template.prefix.removesuffix(f"{INSTRUCTION}\n\n")
        tail = template.question.partition("{question}")[2] if template.origin == "messages" else ""
        return PromptTemplate(head + self.instruction, "{title}\n{text}\n", "{text}\n", self.question_head + "{question}" + tail, "custom")

    def begin(self, template: PromptTemplate) -> str:
        """The answer's first words behind the question of `template`, the model's own."""
        return self.answer if template.origin in ("documents", "custom") else self.answer_head + self.answer


@dataclass(frozen=True)
class Context:
    """Documents of about `length` tokens, question and answer included, and what is asked about them together.

    Attributes:
        build: makes the documents, the same each time. score: of :data:`graphkv_benchmarks.long_context.scores.SCORES`.
        max_new_tokens: room for each answer. form: another wording than the model's own template.
    """

    id: str
    length: int
    cases: tuple[Case, ...]
    build: Callable[[], Documents]
    score: str
    max_new_tokens: int
    form: Form | None = None


def short(tokens: int) -> str:
    """A number of tokens as the tables have it.

    Example:
        >>> short(512), short(4096), short(128 * 1024), short(1024**2), short(5000)
        ('512', '4k', '128k', '1M', '5000')
    """
    if tokens >= 1024**2 and tokens % 1024**2 == 0:
        return f"{tokens // 1024**2}M"
    return f"{tokens // 1024}k" if tokens >= 1024 and tokens % 1024 == 0 else str(tokens)
