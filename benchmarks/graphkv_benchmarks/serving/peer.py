"""The same questions by transformers alone, in this process and one at a time: whole prompts, and over a copy of a cache that holds the documents."""

from __future__ import annotations

import copy
import inspect
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
import transformers
from transformers import DynamicCache

from graphkv.engine import GraphKV

from .contexts import Context

HOW = {
    "whole_prompt": "model.generate() of transformers, greedy, documents and question as one prompt by the chat template; no HTTP",
    "prefix_cache": "the same over a copy of a DynamicCache that holds what all prompts begin with, which was computed before",
}


@torch.no_grad()
def run_peer(engine: GraphKV, context: Context, *, turns: int) -> dict[str, Any] | None:
    """Seconds for all questions of a context, one at a time; None where the chat template takes no documents or they do not fit the window as one prompt."""
    if engine.template.origin != "documents":
        return None
    prompts = [_prompt(engine, context, question) for question in context.questions]
    if max(map(len, prompts)) + 64 > engine.model.window:
        return None
    shared = next(i for i, tokens in enumerate(zip(*prompts, strict=False)) if len(set(tokens)) > 1)
    keyword = "cache" if "cache" in inspect.signature(type(engine.model.model).forward).parameters else "past_key_values"  # renamed in 5.24
    cache = DynamicCache(config=engine.model.model.config)
    engine.model.model(input_ids=torch.tensor([prompts[0][:shared]]), use_cache=True, **{keyword: cache})
    ways: dict[str, Callable[[list[int]], str]] = {
        "whole_prompt": lambda ids: _answer(engine, ids),
        "prefix_cache": lambda ids: _answer(engine, ids, **{keyword: copy.deepcopy(cache)}),
    }
    times: dict[str, list[float]] = {way: [] for way in ways}
    texts: dict[str, list[str]] = {}
    for answer in ways.values():
        answer(prompts[0])  # what only a first call pays for
    for _ in range(turns):
        for way, answer in ways.items():
            begin = time.perf_counter()
            texts[way] = [answer(ids) for ids in prompts]
            times[way].append(time.perf_counter() - begin)
    equal = sum(a == b for a, b in zip(*texts.values(), strict=True))
    return {
        "how": HOW,
        "transformers": transformers.__version__,
        "prompt_tokens": [min(map(len, prompts)), max(map(len, prompts))],
        "shared_tokens": shared,
        "same_answers": f"{equal} of {len(prompts)}",
        "ways": {way: {"seconds": round(statistics.median(s), 4), "questions_s": round(len(prompts) / statistics.median(s), 2)} for way, s in times.items()},
    }


def _prompt(engine: GraphKV, context: Context, question: str) -> list[int]:
    chat = [{"role": "user", "content": question}]
    ids: list[int] = engine.model.tokenizer.apply_chat_template(chat, documents=list(context.documents), add_generation_prompt=True, return_dict=True)["input_ids"]
    return ids


def _answer(engine: GraphKV, ids: Sequence[int], **more: Any) -> str:
    prompt = torch.tensor([list(ids)])
    out = engine.model.model.generate(input_ids=prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=64, **more)
    text: str = engine.model.tokenizer.decode(out[0, len(ids) :], skip_special_tokens=True)
    return text.strip()
