"""The tokenizer: byte-level BPE whose name syllables stay apart, so that a name must be copied and cannot be recalled."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from ..citation_world import FIRST_NAMES, NOT_FOUND, SYLLABLES, TITLE_WORDS, Recipe, make_needles, make_world

BOS, EOS, PAD = "<s>", "</s>", "<pad>"
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for d in documents %}{% if d.title %}Title: {{ d.title }}. {% endif %}{{ d.text }}\n{% endfor %}"
    "Question: {{ messages[-1].content }}\nAnswer:"
)
# A letter run, one digit, or a run of other signs, each with the space before it: "95.7" is " 9", "5", ".", "7".
PIECES = r" ?\p{L}+| ?\d| ?[^\s\p{L}\d]+|\s+"


def _corpus() -> Iterator[str]:
    """Syllables first and often, so their merges have the best ranks and are complete before any other merge applies; then the
    words of the templates, from worlds whose invented names were taken out."""
    for syllable in SYLLABLES:
        for _ in range(3000):
            yield syllable
            yield " " + syllable.capitalize()
    for _ in range(20):
        yield "".join(f" {word}" for word in (*TITLE_WORDS, *FIRST_NAMES, *range(10), *range(10)))
    syllable = "|".join(SYLLABLES)
    invented = re.compile(rf" (?:{syllable})(?:{syllable})+\b", re.IGNORECASE)
    for seed in range(160):
        world, hay = make_world(seed, 4, recipe=Recipe(words=60)), make_needles(seed, 40)
        yield from (invented.sub("", p.segment) for p in world.papers + hay.papers)
        for question in world.questions[:20] + hay.questions:
            yield invented.sub("", f"Question: {question.question}\nAnswer: {NOT_FOUND}")


def build_tokenizer(vocab_size: int = 2048) -> PreTrainedTokenizerFast:
    """Train the tokenizer and check that every two-syllable name splits at its syllables.

    Raises:
        ValueError: if a pair of syllables was merged, which would let the model recall names.
    """
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(  # type: ignore[assignment]
        [pre_tokenizers.Split(Regex(PIECES), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    core.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=[BOS, EOS, PAD], initial_alphabet=alphabet, show_progress=False)
    core.train_from_iterator(_corpus(), trainer)
    for first in SYLLABLES:
        for second in SYLLABLES:
            if len(core.encode(f" {first.capitalize()}{second}").ids) != 2:
                raise ValueError(f"the name {first.capitalize()}{second} does not split at its syllables")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token=BOS, eos_token=EOS, pad_token=PAD, model_max_length=8192, clean_up_tokenization_spaces=False
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer saved in ``folder``, built and saved there first if it is missing."""
    if not (folder / "tokenizer.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        build_tokenizer().save_pretrained(folder)
    return PreTrainedTokenizerFast.from_pretrained(folder)


if __name__ == "__main__":
    sample = make_world(random.randrange(10**6), 2)
    tok = build_tokenizer()
    print(len(tok), [tok.convert_ids_to_tokens(tok(p.segment)["input_ids"]) for p in sample.papers])
