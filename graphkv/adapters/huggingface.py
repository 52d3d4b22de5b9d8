"""Hugging Face: ``pipeline("graphkv-text-generation")``, documents and a question in, an answer and what it was read from out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from itertools import groupby
from typing import Any

from transformers import AutoModelForCausalLM, GenerationConfig, Pipeline
from transformers.pipelines import PIPELINE_REGISTRY

from graphkv.engine import GraphKV
from graphkv.errors import InputError, one_of
from graphkv.graph import SegmentGraph
from graphkv.model import EMBEDDED

TASK = "graphkv-text-generation"
OPTIONS = ("layout", "strategy", "prefix", "stop", "answer_prefix", "max_new_tokens")
"""Parameters of a call that :meth:`graphkv.GraphKV.ask` has under the same name."""


def register() -> None:
    """Make the task known to transformers; from then on ``pipeline("graphkv-text-generation", model=...)`` works. A second call does nothing."""
    if PIPELINE_REGISTRY.supported_tasks.get(TASK, {}).get("impl") is not GraphKVPipeline:
        default = {"model": (str(EMBEDDED), None)}
        PIPELINE_REGISTRY.register_pipeline(TASK, GraphKVPipeline, pt_model=AutoModelForCausalLM, default=default, type="text")


class GraphKVPipeline(Pipeline):  # type: ignore[misc]
    """Answers questions from documents, reading each document once.

    Args:
        model, tokenizer, device, dtype ...: as in every pipeline. store, template, max_segment_tokens, kernel: as in
            :meth:`graphkv.GraphKV.from_pretrained`.

    A call takes ``{"documents": ..., "question": ...}`` or a list of such rows. Documents are what :meth:`graphkv.GraphKV.ask` takes; several
    questions in a list are decoded as one batch, and so are neighbouring rows over equal documents when `batch_size` is set.
    Its parameters are those of :data:`OPTIONS`, `options` (the layout's or the strategy's own, a dict), and what ``generate`` takes.

    Returns:
        A dict a question: generated_text, finish_reason, segments (what the question read), citations, tokens_reused, tokens_computed, tokens_generated.

    Example:
        >>> register()
        >>> pipe = pipeline("graphkv-text-generation")  # doctest: +SKIP
        >>> pipe({"documents": [{"id": "a", "text": "Ada Fumrel wrote Night Maple."}], "question": "Who wrote Night Maple?"})  # doctest: +SKIP
        {'generated_text': 'Ada Fumrel', ...}
    """

    _load_tokenizer = True

    def __init__(self, *args: Any, store: Any = None, template: Any = None, max_segment_tokens: int | None = None, kernel: str | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        pair = (self.model, self.tokenizer)
        self.engine = GraphKV.from_pretrained(pair, store=store, template=template, max_segment_tokens=max_segment_tokens, kernel=kernel)

    def save_pretrained(self, save_directory: Any, **kwargs: Any) -> None:
        """Model and tokenizer as they are: transformers would add this file as code to be trusted, and the task could not be named without it."""
        self.model.save_pretrained(save_directory, **kwargs)
        self.tokenizer.save_pretrained(save_directory, **kwargs)

    def _sanitize_parameters(self, **parameters: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        known = {*OPTIONS, "options", "generation_config", *vars(GenerationConfig())}
        for name in parameters:
            if name not in known:
                raise InputError(one_of("parameter", name, (*OPTIONS, "options", "generation_config", "what generate() takes")))
        return {}, parameters, {}

    def preprocess(self, inputs: Any) -> dict[str, Any]:
        if not isinstance(inputs, Mapping) or set(inputs) != {"documents", "question"}:
            got = f"the keys {sorted(map(str, inputs))}" if isinstance(inputs, Mapping) else type(inputs).__name__
            raise InputError(f"expected {{'documents': ..., 'question': ...}}, got {got}")
        documents, question = inputs["documents"], inputs["question"]
        graph = documents if isinstance(documents, SegmentGraph) else SegmentGraph.from_documents(documents)
        return {"row": (graph, tuple(question) if isinstance(question, list) else question)}

    def _forward(self, model_inputs: dict[str, Any], options: Mapping[str, Any] | None = None, **parameters: Any) -> dict[str, Any]:
        rows = model_inputs["row"] if isinstance(model_inputs["row"], list) else [model_inputs["row"]]
        own = {name: parameters.pop(name) for name in OPTIONS if name in parameters}
        config = parameters.pop("generation_config", None)
        if parameters:  # what generate() takes by name stands above the config, as it does there
            config = GenerationConfig(**{**(config.to_diff_dict() if config is not None else {}), **parameters})
        found: list[Any] = []
        for _, same in groupby(rows, key=lambda row: (row[0].segments, row[0].edges, row[0].max_segment_tokens)):
            part = list(same)
            asked = [q for _, question in part for q in (question if isinstance(question, tuple) else (question,))]
            answers = iter(self.engine.ask_many(part[0][0], asked, generation_config=config, **own, **(options or {})))
            found += [tuple(next(answers) for _ in question) if isinstance(question, tuple) else next(answers) for _, question in part]
        return {"answer": found if isinstance(model_inputs["row"], list) else found[0]}

    def postprocess(self, model_outputs: dict[str, Any]) -> Any:
        answer = model_outputs["answer"]
        return [_shown(one) for one in answer] if isinstance(answer, tuple) else _shown(answer)


def _shown(answer: Any) -> dict[str, Any]:
    counts = {name: getattr(answer, name) for name in ("finish_reason", "tokens_reused", "tokens_computed", "tokens_generated")}
    return {"generated_text": answer.text, "segments": [asdict(s) for s in answer.segments], "citations": [asdict(c) for c in answer.citations], **counts}
