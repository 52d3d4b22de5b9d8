"""Fields of OpenAI's, vLLM's, Anthropic's and Cohere's APIs that would change an answer and that this server does not honour: refused, where others are ignored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphkv.serve.errors import ApiError

_NOTHING: tuple[Any, ...] = (None, [], {}, False)

REFUSED: Mapping[str, tuple[tuple[Any, ...], str]] = {
    "n": ((None, 1), "one answer is given at a time: ask again, with another seed"),
    "best_of": ((None, 1), "one answer is given at a time"),
    "use_beam_search": (_NOTHING, "there is no beam search"),
    "tools": (_NOTHING, "tools are not supported"),
    "functions": (_NOTHING, "tools are not supported"),
    "tool_choice": ((None, "none", "auto"), "tools are not supported"),
    "function_call": ((None, "none", "auto"), "tools are not supported"),
    "web_search_options": ((None,), "nothing is looked up; send the documents"),
    "response_format": ((None, {"type": "text"}), "answers are plain text"),
    "structured_outputs": (_NOTHING, "answers are plain text"),
    "guided_json": (_NOTHING, "answers are plain text"),
    "guided_regex": (_NOTHING, "answers are plain text"),
    "guided_choice": (_NOTHING, "answers are plain text; /v1/score tells which of several continuations is the likeliest"),
    "guided_grammar": (_NOTHING, "answers are plain text"),
    "modalities": ((None, ["text"]), "answers are plain text"),
    "audio": (_NOTHING, "answers are plain text"),
    "logprobs": (_NOTHING, "they are not given; /v1/score tells how likely a continuation is"),
    "top_logprobs": ((None, 0), "they are not given; /v1/score tells how likely a continuation is"),
    "prompt_logprobs": ((None, 0, False), "they are not given; /v1/score tells how likely a continuation is"),
    "presence_penalty": ((None, 0), "penalties are not supported"),
    "frequency_penalty": ((None, 0), "penalties are not supported"),
    "repetition_penalty": ((None, 1), "penalties are not supported"),
    "logit_bias": (_NOTHING, "logits are taken as they are"),
    "min_p": ((None, 0), "use top_p or top_k"),
    "min_tokens": ((None, 0), "an answer ends where the model ends it"),
    "ignore_eos": (_NOTHING, "an answer ends where the model ends it"),
    "stop_token_ids": (_NOTHING, "use stop, with texts"),
    "bad_words": (_NOTHING, "logits are taken as they are"),
    "chat_template": ((None,), "the model's own chat template is used"),
    "chat_template_kwargs": (_NOTHING, "the model's own chat template is used, as it is"),
    "add_generation_prompt": ((None, True), "the answer always begins a message of its own"),
    "allowed_token_ids": (_NOTHING, "logits are taken as they are"),
    "include_stop_str_in_output": (_NOTHING, "an answer ends in front of the stop text"),
    "truncate_prompt_tokens": ((None,), "nothing is cut off: send less"),
    "system": ((None,), "send a message with the role system"),
    "stop_sequences": (_NOTHING, "its name here is stop"),
    "p": ((None, 1), "its name here is top_p"),
    "k": ((None, 0), "its name here is top_k"),
    "document": ((None,), "its name here is documents, and it is a list"),
    "continue_final_message": (_NOTHING, "the last message must be the user's"),
    "echo": (_NOTHING, "the prompt is not repeated"),
}
"""By name: the values that change nothing, and what is said of any other."""


def refuse_unsupported(extra: Mapping[str, Any] | None) -> None:
    """Look at the fields of a request that its model does not know.

    Raises:
        ApiError: 400, one that asks for something this server cannot do.

    Example:
        >>> refuse_unsupported({"user": "somebody", "n": 1, "presence_penalty": 0.0})
        >>> refuse_unsupported({"n": 2})
        Traceback (most recent call last):
        ...
        graphkv.serve.errors.ApiError: n: one answer is given at a time: ask again, with another seed
    """
    for name, value in (extra or {}).items():
        if name in REFUSED and value not in REFUSED[name][0]:
            raise ApiError(400, f"{name}: {REFUSED[name][1]}", code="unsupported_parameter", param=name)
