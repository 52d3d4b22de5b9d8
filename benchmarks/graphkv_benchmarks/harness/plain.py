"""Requests without documents: the model's own forward over whole prompts, as lm_eval's ``hf`` has it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from graphkv.assemble import AssembledContext
from graphkv.errors import LengthError
from graphkv.generate import complete_prompts, decoding, question_batch
from graphkv.model import GraphModel

from .settings import Decoding

Pair = tuple[Sequence[int], Sequence[int]]
"""Token ids of a context and of its continuation."""

_NOTHING = AssembledContext((), (), 0, None)


def score_pairs(model: GraphModel, pairs: Sequence[Pair], batch_size: int, *, done: Callable[[int], object] = lambda _: None) -> list[tuple[float, bool]]:
    """(log-likelihood of the continuation, whether it is the greedy one) for each pair, in order.

    A prompt that is longer than the model's window loses tokens on the left. Pairs that differ in their last token only share a
    forward. `done` is told how many pairs a forward has settled.

    Raises:
        LengthError: as :func:`check_continuation`.
    """
    rows: dict[tuple[int, ...], list[int]] = {}
    for place, (context, continuation) in enumerate(pairs):
        check_continuation(model, continuation)
        rows.setdefault(tuple([*context, *continuation][-(model.window + 1) : -1]), []).append(place)
    results: list[tuple[float, bool]] = [(0.0, False)] * len(pairs)
    order = sorted(rows, key=len, reverse=True)  # the longest first: what does not fit into memory shows at once
    for start in range(0, len(order), batch_size):
        part = order[start : start + batch_size]
        keep = max(len(pairs[place][1]) for row in part for place in rows[row])
        ids, positions, mask = question_batch(model, _NOTHING, part)
        logits = model.answer_logits(model.cache((), (), len(part)), ids, positions, mask, None, keep=keep)
        for number, row in enumerate(part):
            for place in rows[row]:
                targets = torch.tensor(list(pairs[place][1]), device=logits.device)
                predicted = logits[number, -len(targets) :].float()
                chosen = predicted.log_softmax(-1).gather(-1, targets[:, None]).sum()
                results[place] = (float(chosen), bool((predicted.argmax(-1) == targets).all()))
        done(sum(len(rows[row]) for row in part))
    return results


def check_continuation(model: GraphModel, continuation: Sequence[int]) -> None:
    """Raises LengthError if a continuation alone is longer than the window."""
    if len(continuation) > model.window:
        raise LengthError(f"the continuation has {len(continuation)} tokens, the model's window is {model.window}: it cannot be scored")


def room_for_prompts(model: GraphModel, how: Decoding) -> int:
    """Tokens that a prompt may have beside the longest answer. Raises LengthError if there are none."""
    room = model.window - how.max_new_tokens
    if room < 1:
        raise LengthError(f"max_gen_toks is {how.max_new_tokens}, the model's window {model.window}: no room for a prompt; ask for a shorter answer")
    return room


def generate_prompts(
    model: GraphModel, prompts: Sequence[Sequence[int]], how: Decoding, batch_size: int, *, done: Callable[[int], object] = lambda _: None
) -> list[str]:
    """What is written behind each prompt, in order, up to the first string of ``how.until``; white space is kept.

    A prompt that leaves no room for ``how.max_new_tokens`` in the model's window loses tokens on the left.

    Raises:
        LengthError: as :func:`room_for_prompts`.
    """
    room = room_for_prompts(model, how)
    kept = [list(prompt)[-room:] for prompt in prompts]
    texts = [""] * len(kept)
    order = sorted(range(len(kept)), key=lambda place: len(kept[place]), reverse=True)
    for start in range(0, len(order), batch_size):
        part = order[start : start + batch_size]
        config = decoding(model, len(kept[part[0]]), how.max_new_tokens, how.until, how.config)
        completions, _ = complete_prompts(model, [kept[place] for place in part], config)
        for place, completion in zip(part, completions, strict=True):
            texts[place] = written(model, completion.token_ids, how.until)
        done(len(part))
    return texts


def written(model: GraphModel, token_ids: Sequence[int], until: Sequence[str]) -> str:
    """The text of an answer as it stands, before the first string of `until`."""
    text: str = model.tokenizer.decode(list(token_ids), skip_special_tokens=True)
    return text[: min((text.index(stop) for stop in until if stop in text), default=len(text))]
