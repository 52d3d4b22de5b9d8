"""Full context: every document in the prompt, one after the other, read as the model reads any text. The baseline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from graphkv.strategies import Host, Request, Strategy
from graphkv.strategy import Answer
from graphkv.tokens import Documents, Text


class FullContext(Strategy):
    """The model's own plain causal reading: what every other strategy is compared with, as far as the model's window goes.

    Its numbers are those of the model's own forward over prefix, documents and question. The documents' KV is kept in the store
    all the same, so a second question about the same documents in the same order computes the question only.

    Example:
        >>> engine.ask(documents, "Who wrote Night Maple?", strategy="full_context").text  # doctest: +SKIP
        'Ada Fumrel'
    """

    name = "full_context"
    query_aware = False
    summary = "all documents in one prompt, plain causal reading, up to the model's window"

    def ask_many(  # type: ignore[override]  # no options
        self, engine: Host, documents: Documents, questions: Sequence[Text], request: Request
    ) -> list[Answer]:
        """Answer `questions` from all of `documents`; no options.

        Raises:
            LengthError: documents and question are longer than the model's window.
        """
        answers = engine.ask_many(documents, questions, layout="sequential", **vars(request))
        return [replace(answer, strategy=self.name) for answer in answers]
