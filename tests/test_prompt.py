"""Prompt assembly: what is read off a chat template, and that pieces are tokenised by themselves and spliced."""

from __future__ import annotations

from typing import Any

import pytest
from helpers import byte_tokenizer, tiny_model
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers.processors import TemplateProcessing

from graphkv import GraphKV, InputError, PromptTemplate, Segment, SegmentGraph
from graphkv.prompt import INSTRUCTION, template_of, tokenize

EMBEDDED = (
    "{{ bos_token }}{% for d in documents %}Title: {{ d.title }}. {{ d.text }}\n{% endfor %}"
    "Question: {{ messages[-1].content }}\nAnswer:"
)
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NUMBERED = (
    "{% for d in documents or [] %}Document [{{ loop.index }}]: {{ d.title }}\n{{ d.text }}\n{% endfor %}"
    "{{ messages[-1].content }}<answer>"
)
QUESTION_FIRST = "Q: {{ messages[-1].content }}\n{% for d in documents or [] %}{{ d.title }}: {{ d.text }}\n{% endfor %}A:"
SEPARATED = (
    "<s>Read:\n{% for d in documents or [] %}# {{ d.title }}\n{{ d.text }}{% if not loop.last %}\n---\n{% endif %}{% endfor %}"
    "\n\nUser: {{ messages[-1].content }}\nBot:"
)
OPTIONAL_TITLE = (
    "[SYS]{% for d in documents %}<doc>{% if d.title %}<t>{{ d.title }}</t>{% endif %}{{ d.text }}</doc>{% endfor %}[/SYS]"
    "{{ messages[-1].content }}[A]"
)
ALTERNATING = "{% for d in documents or [] %}{{ d.title }}: {{ d.text }}{{ loop.cycle('!', '?') }}{% endfor %}{{ messages[-1].content }}>"
DOCUMENTS = [("One", "The first."), ("Two", "The second."), ("Three", "The third.")]


def rendered(template: PromptTemplate, documents: list[tuple[str, str]], question: str) -> str:
    segments = [Segment.from_text(str(i), text, title=title) for i, (title, text) in enumerate(documents)]
    return template.prefix + "".join(template.render(s) for s in segments) + template.ask(question)


def by_jinja(chat_template: str, documents: list[tuple[str, str]], question: str) -> str:
    text: str = byte_tokenizer(chat_template).apply_chat_template(
        [{"role": "user", "content": question}],
        documents=[{"title": t, "text": x} for t, x in documents],
        tokenize=False,
        add_generation_prompt=True,
    )
    return text


def test_documents_of_the_embedded_models_template() -> None:
    template = template_of(byte_tokenizer(EMBEDDED))
    assert template == PromptTemplate(
        "<s>", "Title: {title}. {text}\n", "Title: . {text}\n", "Question: {question}\nAnswer:", "documents"
    )


@pytest.mark.parametrize("chat_template", [EMBEDDED, OPTIONAL_TITLE], ids=["embedded", "optional title"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_pieces_put_together_are_what_the_chat_template_renders(chat_template: str, count: int) -> None:
    template = template_of(byte_tokenizer(chat_template))
    assert template.origin == "documents"
    assert rendered(template, DOCUMENTS[:count], "Why?") == by_jinja(chat_template, DOCUMENTS[:count], "Why?")


def test_an_untitled_document_is_rendered_as_the_chat_template_does() -> None:
    template = template_of(byte_tokenizer(OPTIONAL_TITLE))
    assert (template.document, template.untitled) == ("<doc><t>{title}</t>{text}</doc>", "<doc>{text}</doc>")
    assert template.prefix == "[SYS]" and template.question == "[/SYS]{question}[A]"


def test_a_template_that_ignores_documents_gets_them_in_the_users_turn() -> None:
    template = template_of(byte_tokenizer(CHATML))
    assert template == PromptTemplate(
        f"<|im_start|>user\n{INSTRUCTION}\n\n",
        "- Title: {title}\n{text}\n",
        "- {text}\n",
        "\nQuestion: {question}<|im_end|>\n<|im_start|>assistant\n",
        "messages",
    )


@pytest.mark.parametrize("chat_template", [NUMBERED, QUESTION_FIRST, ALTERNATING], ids=["numbered", "question first", "alternating"])
def test_templates_that_cannot_be_taken_apart_fall_back(chat_template: str) -> None:
    template = template_of(byte_tokenizer(chat_template))
    assert template.origin == "messages"
    assert template.prefix.endswith(f"{INSTRUCTION}\n\n")
    text = rendered(template, DOCUMENTS, "Why?")
    assert [text.count(x) for _, x in DOCUMENTS] == [1, 1, 1] and text.index("The third.") < text.index("Why?")


def test_separators_between_documents() -> None:
    """No wrapper serves first and later documents alike, unless the separator also stands around: then nothing may be lost."""
    template = template_of(byte_tokenizer(SEPARATED))
    text = rendered(template, DOCUMENTS, "Why?")
    if template.origin == "documents":
        assert text == by_jinja(SEPARATED, DOCUMENTS, "Why?")
    else:
        assert template.origin == "messages" and INSTRUCTION in text
    around = "{% for d in documents %}\n---\n{{ d.title }}|{{ d.text }}{% endfor %}\n---\n{{ messages[-1].content }}>"
    template = template_of(byte_tokenizer(around))
    assert template.origin == "documents"
    assert rendered(template, DOCUMENTS, "Why?") == by_jinja(around, DOCUMENTS, "Why?")


@pytest.mark.parametrize(
    "chat_template",
    [
        NUMBERED.replace(" or []", ""),  # cannot be taken apart, and does not work without documents either
        "{% for d in documents %}{{ d.title + ': ' + d.text }}\n{% endfor %}{{ messages[-1].content }}",  # needs titles
    ],
    ids=["needs documents", "needs titles"],
)
def test_templates_that_cannot_be_rendered_without_documents_or_titles(chat_template: str) -> None:
    text = rendered(template_of(byte_tokenizer(chat_template)), DOCUMENTS, "Why?")
    assert all(x in text for _, x in DOCUMENTS)


def test_a_template_that_hides_the_users_message() -> None:
    with pytest.raises(InputError, match=r"does not show the user's message: pass template=PromptTemplate"):
        template_of(byte_tokenizer("always the same"))


def bos_first() -> Any:
    tokenizer = byte_tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)])
    return tokenizer


def test_plain_tokenizers_with_and_without_bos() -> None:
    plain = template_of(byte_tokenizer())
    assert plain == PromptTemplate("", "Title: {title}\n{text}\n\n", "{text}\n\n", "Question: {question}\nAnswer:", "plain")
    with_bos = bos_first()
    template = template_of(with_bos)
    assert template.prefix == "<s>" and template.document == plain.document
    assert tokenize(with_bos, template.prefix) == (with_bos.bos_token_id,)
    assert tokenize(with_bos, "ab") == tokenize(byte_tokenizer(), "ab")  # BOS stands once, in the prefix


NASTY = ["{title}", "{text}", "{question}", "{{ d.text }}", "GKVTEXT0", "GKVQUESTION", "\\1 %s {0}"]


@pytest.mark.parametrize("nasty", NASTY)
@pytest.mark.parametrize("chat_template", [None, EMBEDDED, CHATML, OPTIONAL_TITLE])
def test_placeholders_in_the_users_text_are_left_alone(chat_template: str | None, nasty: str) -> None:
    template = template_of(byte_tokenizer(chat_template))
    segment = Segment.from_text("a", f"body {nasty}", title=f"head {nasty}")
    before, rest = template.document.split("{title}")
    between, after = rest.split("{text}")
    assert template.render(segment) == f"{before}head {nasty}{between}body {nasty}{after}"
    assert template.ask(nasty) == template.question.replace("{question}", nasty)
    assert template.render(Segment.from_text("a", nasty)) == template.untitled.replace("{text}", nasty)


@pytest.mark.parametrize(
    ("pieces", "name", "placeholder"),
    [
        (("", "{text}", "{text}", "{question}"), "document", "{title}"),
        (("", "{title}", "{text}", "{question}"), "document", "{text}"),
        (("", "{title}{text}", "", "{question}"), "untitled", "{text}"),
        (("", "{title}{text}", "{text}", "Q"), "question", "{question}"),
        (("", "{title}{text}{text}", "{text}", "{question}"), "document", "{text}"),
    ],
)
def test_a_template_without_its_placeholder(pieces: tuple[str, str, str, str], name: str, placeholder: str) -> None:
    with pytest.raises(InputError, match=rf"{name!r} must hold \{placeholder[:-1]}\}} once"):
        PromptTemplate(*pieces)


@settings(max_examples=25, deadline=None)
@given(st.text(min_size=1, max_size=20), st.text(max_size=8), st.sampled_from([None, EMBEDDED, CHATML]))
def test_rendering_loses_nothing(text: str, title: str, chat_template: str | None) -> None:
    if not text.strip():
        return
    template = template_of(byte_tokenizer(chat_template))
    out = template.render(Segment.from_text("a", text, title=title))
    assert text in out and title in out


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_model()


@pytest.mark.parametrize("chat_template", [None, EMBEDDED, CHATML, NUMBERED])
def test_ids_are_the_pieces_tokenised_by_themselves(model: Any, chat_template: str | None) -> None:
    """1. the engine's blocks; 2. each piece of text through the tokenizer, without special tokens."""
    tokenizer = byte_tokenizer(chat_template)
    engine = GraphKV.from_pretrained((model, tokenizer))
    template = engine.template
    graph = SegmentGraph.from_documents([{"id": str(i), "title": t, "text": x} for i, (t, x) in enumerate(DOCUMENTS)])
    encoded = engine.encode(graph, layout="block")
    pieces = [template.prefix, *(template.render(s) for s in graph.segments)]
    expected = [tuple(tokenizer(p, add_special_tokens=False)["input_ids"]) for p in pieces if p]
    assert [block.token_ids for block in encoded.blocks] == expected
    asked = tokenizer(template.ask("Why?"), add_special_tokens=False)["input_ids"]
    assert engine.plan(graph, "Why?").question.length == len(asked)


def test_spliced_ids_are_not_the_ids_of_the_joined_text(model: Any) -> None:
    """A tokenizer with merges would join across the seam; each document must keep the ids it has alone."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate([*alphabet, "ab"])}, merges=[("a", "b")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    engine = GraphKV.from_pretrained((model, tokenizer), template=PromptTemplate("", "{title}{text}", "{text}", "{question}"))
    graph = SegmentGraph.from_segments([Segment.from_text("1", "xa"), Segment.from_text("2", "bx")])
    assert len(tokenizer("xabx")["input_ids"]) == 3
    encoded = engine.encode(graph, layout="block")
    a, b, x = (alphabet.index(c) for c in "abx")
    assert [block.token_ids for block in encoded.blocks] == [(x, a), (b, x)]


def test_titles_and_templates_are_left_out_of_raw_logits(model: Any) -> None:
    engine = GraphKV.from_pretrained((model, byte_tokenizer(EMBEDDED)))
    titled = SegmentGraph.from_documents([{"id": "a", "title": "T", "text": "abc"}])
    ids = engine.model.tokenizer("abc")["input_ids"]
    bare = SegmentGraph.from_segments([Segment.from_tokens("a", ids)])
    assert engine.logits(titled, "Q").equal(engine.logits(bare, engine.model.tokenizer("Q")["input_ids"]))


@pytest.mark.parametrize("max_segment_tokens", [40, 60])
def test_parts_of_a_long_document_fit_with_their_title(model: Any, max_segment_tokens: int) -> None:
    engine = GraphKV.from_pretrained((model, byte_tokenizer(EMBEDDED)), max_segment_tokens=max_segment_tokens)
    graph = SegmentGraph.from_documents([{"id": "a", "title": "Long", "text": "One sentence. " * 12}])
    lengths = [b.length for b in engine.plan(graph).blocks if b.segment]
    assert len(lengths) > 4 and max(lengths) <= max_segment_tokens
