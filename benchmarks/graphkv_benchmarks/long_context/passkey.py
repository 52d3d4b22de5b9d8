"""The passkey task (Mohtashami and Jaggi, arXiv 2305.16300, section 4.2): a number in a few sentences that are repeated over and over."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial

from ..citation_world.needles import PASSKEY
from ..citation_world.phrases import HAY
from .cases import Case, Context
from .haystack import Meter, repeated_haystack, room_for
from .needle import MAX_NEW_TOKENS, bury


def passkey_contexts(
    meter: Meter, lengths: Sequence[int], depths: Sequence[float], *, cases: int = 3, seed: int = 1, document_tokens: int = 512
) -> list[Context]:
    """`cases` contexts at every length and depth, each with a key of five digits.

    Args:
        lengths, depths, document_tokens: as in :func:`graphkv_benchmarks.long_context.needle.needle_contexts`.

    Raises:
        LengthError: a length without room for a haystack.
    """
    sentence, question = PASSKEY
    haystack = repeated_haystack(meter, HAY[0])
    found = []
    for length in lengths:
        for number, depth in enumerate(depth for depth in depths for _ in range(cases)):
            name = f"passkey-{length}-{number}"
            key = str(random.Random(f"{name} {seed}").randint(10_000, 99_999))
            hidden = sentence.replace("{V}", key)
            room = room_for(length, meter.around([question], MAX_NEW_TOKENS), meter.per_document(), document_tokens, sum(meter.counts([hidden])))
            build = partial(bury, meter, haystack, room, 0, [(depth, hidden)], document_tokens)
            found.append(Context(name, length, (Case(f"{name}-0", "passkey", question, (key,), depth),), build, "integer", MAX_NEW_TOKENS))
    return found
