"""KV + layout → one cache: every block that the question reads, rotated to where the question finds it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from graphkv.attention import Reweigh
from graphkv.encode import EncodedContext
from graphkv.kv import rotate
from graphkv.layout import Layout
from graphkv.model import GraphModel


@dataclass(frozen=True, eq=False)
class AssembledContext:
    """What the question reads. New tensors: generation appends to copies, stored KV is never touched.

    Attributes:
        keys, values: one ``[H_kv, N, D]`` a layer, keys rotated.
        position: position id of the question's first token.
        reweigh: APE's re-weighing, or None.
    """

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    position: int
    reweigh: Reweigh | None

    @property
    def length(self) -> int:
        """Tokens in the cache."""
        return self.keys[0].shape[1] if self.keys else 0


def exposed_order(layout: Layout, keys: Sequence[str]) -> list[int]:
    """The blocks that the question reads, as they lie in the cache: the prefix, then by place and key. `keys` are all blocks', in packed order."""
    prefix = [i for i in layout.exposed if layout.blocks[i].segment is None]
    rest = [i for i in layout.exposed if layout.blocks[i].segment is not None]
    return prefix + sorted(rest, key=lambda i: (layout.blocks[i].answer_position, keys[i]))


def assemble(model: GraphModel, encoded: EncodedContext) -> AssembledContext:
    """Rotate and join the exposed blocks.

    Attention does not care in which order keys lie in memory, but rounding does: blocks are laid in an order that
    depends on their content only, so that permuting sources under shared positions gives the same bits.
    """
    layout = encoded.layout
    order = exposed_order(layout, [kv.key for kv in encoded.blocks])
    positions = torch.cat([torch.arange(layout.blocks[i].answer_position, layout.blocks[i].answer_position + len(encoded.blocks[i])) for i in order])
    tables = {id(rope): rope.table(positions) for rope in model.ropes}
    keys, values = [], []
    for n, rope in enumerate(model.ropes):
        keys.append(rotate(torch.cat([encoded.blocks[i].keys[n] for i in order], 1), *tables[id(rope)]))
        values.append(torch.cat([encoded.blocks[i].values[n] for i in order], 1))
    reweigh = None
    prefix = [i for i in order if layout.blocks[i].segment is None]
    if (layout.temperature, layout.scale) != (1.0, 1.0):
        reweigh = Reweigh(sum(len(encoded.blocks[i]) for i in prefix), len(positions), layout.temperature, layout.scale)
    return AssembledContext(tuple(keys), tuple(values), layout.question.answer_position, reweigh)
