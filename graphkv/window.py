"""Does a layout fit into the model's window? Asked before any work is done."""

from __future__ import annotations

from graphkv.errors import LengthError
from graphkv.layout import Layout
from graphkv.model import GraphModel


def check_window(model: GraphModel, plan: Layout, new_tokens: int = 0) -> None:
    """Raises LengthError if a segment, the documents, or the question with its `new_tokens` do not fit into the model's window."""
    window = model.window
    for block in plan.blocks:
        if block.length > window:
            what = f"segment {block.segment!r}" if block.segment else f"the {block.role}"
            hint = "; cut it with max_segment_tokens=... (--max-segment-tokens)" if block.segment else ""
            raise LengthError(f"{what} has {block.length} tokens, the model's window is {window}{hint}")
    context = max((max(b.position, b.answer_position) + b.length for b in plan.blocks[:-1]), default=0)
    if context > window:
        raise LengthError(f"layout {plan.name!r} needs {context} positions for the documents, the model's window is {window}; use fewer documents or a shared-position layout")
    left = window - plan.question.answer_position
    if plan.question.length + new_tokens > left:
        raise LengthError(f"the question has {plan.question.length} tokens, but after the documents only {max(left, 0)} of the model's {window} positions are left")
    sliding = model.sliding_window
    tokens = sum(plan.blocks[i].length for i in plan.exposed) + plan.question.length + new_tokens
    deepest = max(sum(plan.blocks[j].length for j in b.reads) + b.length for b in plan.blocks)
    if sliding is not None and max(tokens, deepest) > sliding:
        raise LengthError(
            f"the model's sliding window of {sliding} tokens is shorter than the layout ({max(tokens, deepest)} tokens): sliding windows are not supported yet; "
            "use shorter documents, fewer of them, or a model without a sliding window"
        )
