"""The prompts of the RAG sets as released: Graph-KV's for six of them, LongBench-v2's own for the seventh."""

from __future__ import annotations

from collections.abc import Mapping

from graphkv.prompt import PromptTemplate

PREFIX = (
    "<|user|>\nYou are an intelligent AI assistant. Please answer questions based on the user's instructions. "
    "Below are some reference documents that may help you in answering the user's question.\n\n"
)
_ASK = "Please write a high-quality answer for the given question using only the provided search documents"
_BLOCK = f"{_ASK} (some of which might be irrelevant). "
_MULTIHOP = (
    f"{_ASK}. The answer to the question is a word or entity. If the provided information is insufficient to answer the question, "
    "respond 'Insufficient Information'. Please finally give your answer started with: 'The answer is:'. "
)
_MOREHOP = (
    f"{_ASK}. (If the answer is a date, format is as follows: YYYY-MM-DD (ISO standard).) "
    "After thinking step by step, give your final answer following 'Answer:' "
)


def _template(instruction: str, untitled: str) -> PromptTemplate:
    return PromptTemplate(PREFIX, "- Title: {title}\n{text}\n", untitled, instruction + "\n Question: {question} \n<|assistant|>\n")


_BLOCK_TEMPLATE = _template(_BLOCK, "- Title: \n{text}\n")
# The chat tags are Graph-KV's, so that its models can be asked; its own LongBench code is not released. A segment ends where the next begins:
# joined they are the context as it is.
_LONGBENCH = PromptTemplate(
    prefix="<|user|>\nPlease read the following text and answer the question below.\n\n<text>\n",
    document="{title}\n{text}",  # unused: no segment has a title
    untitled="{text}",
    question="\n</text>\n\nWhat is the correct answer to this question: {question}\n\n"
    'Format your response as follows: "The correct answer is (insert answer here)".\n<|assistant|>\n',
)

TEMPLATES: Mapping[str, PromptTemplate] = {
    "nq": _BLOCK_TEMPLATE,
    "2wiki": _BLOCK_TEMPLATE,
    "tqa": _BLOCK_TEMPLATE,
    "hotpotqa": _BLOCK_TEMPLATE,
    "multihop-rag": _template(_MULTIHOP, "{text}\n"),
    "morehopqa": _template(_MOREHOP, "{text}\n"),
    "longbench-v2": _LONGBENCH,
}
"""The released wording by set. The tags are those of the Tulu 3 models that the paper uses."""

END_MARKS = ("<|im_end|>", "<|eot_id|>", "<|end_of_text|>", "<|endoftext|>", "</s>")
"""Strings that end an answer whatever the tokenizer's own end is. The official server of Block-RAG stops at these and at "Question:"."""
