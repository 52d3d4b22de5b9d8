"""Landmark attention: the grouped softmax, word by word and as one matrix product.

Landmark Attention (Mohtashami and Jaggi, 2023, arXiv 2305.16300, section 3.1): every block of text ends with a *landmark* token whose
key stands for the block. A token reads an earlier block only through that block's landmark: what the landmark gets among the landmarks and
the token's own block is shared out among the block's tokens by a softmax of their own. With blocks of two tokens and a landmark
(a b *, c d *) and a question of two (q r), where 1 is read in full, * is read through its landmark, and . is never read::

          a b * c d * q r
    a     1
    b     1 1
    *     1 1 .
    c     * * . 1
    d     * * . 1 1
    *     * * . 1 1 .
    q     * * . * * . 1
    r     * * . * * . 1 1

Shape suffixes: B batch, H query heads, K key heads, G = H / K, T queries, S keys, N landmarks, W tokens of the longest block without its
landmark, D head dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from graphkv_kernels.errors import PatternError, ShapeError
from graphkv_kernels.softmax import compute_dtype


@dataclass(frozen=True)
class LandmarkGroups:
    """Which block each token is of, which tokens are landmarks, and which question each belongs to.

    Tokens stand in reading order, and each reads what comes before it: the context (branch 0) reads itself, a question (branches 1, 2, ...)
    the context and itself, no other question. A question is a block without a landmark, however long.

    Args:
        block: number of each token's block, rising from token to token, ``[S]``.
        landmark: whether the token is its block's landmark, ``[S]``.
        branch: 0 for the context, else the number of the question, ``[S]``; empty when there are no questions.

    Raises:
        PatternError: unequal lengths, no tokens, blocks out of order or of two branches, context behind a question, a landmark that
            is not its block's last token or has no text before it, a block without a landmark that a later one would have to read.

    Example:
        >>> LandmarkGroups.over([False, False, True, False, True], questions=[2])
        LandmarkGroups(block=(0, 0, 0, 1, 1, 2, 2), landmark=(False, False, True, False, True, False, False), branch=(0, 0, 0, 0, 0, 1, 1))
    """

    block: tuple[int, ...]
    landmark: tuple[bool, ...]
    branch: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        size = len(self.block)
        if not size or len(self.landmark) != size or len(self.branch) not in (0, size):
            raise PatternError(f"expected one block, landmark and branch for each token and at least one token, got {size}, {len(self.landmark)} and {len(self.branch)}")
        branch = self.branch or (0,) * size
        for at in range(1, size):
            same = self.block[at] == self.block[at - 1]
            if self.block[at] < self.block[at - 1]:
                raise PatternError(f"expected blocks in order, got block {self.block[at]} behind block {self.block[at - 1]} at token {at}")
            if branch[at] < branch[at - 1]:
                raise PatternError(f"expected the context and then one question after the other, got branch {branch[at]} behind {branch[at - 1]} at token {at}")
            if same and branch[at] != branch[at - 1]:
                raise PatternError(f"block {self.block[at]} is of two branches, {branch[at - 1]} and {branch[at]}: a question begins a new block")
            if same and self.landmark[at - 1]:
                raise PatternError(f"the landmark at token {at - 1} is not the last token of block {self.block[at]}")
            if not same and not self.landmark[at - 1] and branch[at] == branch[at - 1]:
                raise PatternError(f"block {self.block[at - 1]} has no landmark: block {self.block[at]} behind it could not read it")
            if not same and not self.landmark[at - 1] and branch[at - 1] == 0:
                raise PatternError(f"block {self.block[at - 1]} has no landmark: the questions behind it could not read it")
        for at, is_landmark in enumerate(self.landmark):
            if is_landmark and (at == 0 or self.block[at - 1] != self.block[at]):
                raise PatternError(f"the landmark at token {at} has no text in its block")

    @classmethod
    def over(cls, landmark: Sequence[bool], questions: Sequence[int] = ()) -> LandmarkGroups:
        """Groups of a context whose blocks end where `landmark` is True, and of questions of so many tokens behind it."""
        block: list[int] = []
        number = 0
        for is_landmark in landmark:
            block.append(number)
            number += bool(is_landmark)
        if block and not landmark[-1]:
            number += 1
        branch = [0] * len(block)
        for question, length in enumerate(questions):
            block += [number + question] * length
            branch += [question + 1] * length
        return cls(tuple(block), (*map(bool, landmark), *[False] * sum(questions)), tuple(branch))

    @property
    def tokens(self) -> int:
        """Tokens of all blocks together, the length of key and value."""
        return len(self.block)

    def allowed(self, query_length: int | None = None) -> Tensor:
        """Which keys come before which queries in the same reading, ``[T, S]``; the queries are the last `query_length` tokens, all by default."""
        size = self.tokens
        rows = torch.arange(size - (size if query_length is None else query_length), size)
        branch = torch.tensor(self.branch or [0] * size)
        return (torch.arange(size) <= rows[:, None]) & ((branch == 0) | (branch == branch[rows][:, None]))

    @cached_property  # written beside the fields of the frozen instance, and no part of its equality
    def _plan(self) -> _Plan:
        return _Plan(self)


def grouped_softmax_reference(scores: Tensor, block_q: Tensor, block_k: Tensor, landmark_k: Tensor, allowed: Tensor) -> Tensor:
    """The paper's grouped softmax (arXiv 2305.16300, section 3.1), one row and one group at a time. Slow on purpose.

    For a query i, its group of a key j is: none if i may not read j, or j is the landmark of i's own block; i's own block if j is in it, or is
    the landmark of another block; else j's own block. S is the softmax of the scores within each group. The weight of j is S where j is in
    i's block, 0 where j is a landmark, and else S of j times S of the landmark of j's block.

    Args:
        scores: ``[..., T, S]``. block_q, block_k: number of each query's and key's block, ``[T]`` and ``[S]``. landmark_k: which keys are landmarks,
            ``[S]``. allowed: which keys a query may read at all, ``[T, S]``.

    Returns:
        Weights ``[..., T, S]``; each row sums to 1.

    Example:
        >>> weights = grouped_softmax_reference(torch.zeros(1, 4), torch.tensor([1]), torch.tensor([0, 0, 0, 1]), torch.tensor([False, False, True, False]), torch.ones(1, 4).bool())
        >>> weights.tolist()
        [[0.25, 0.25, 0.0, 0.5]]
    """
    rows = []
    landmark_of = {int(block_k[j]): j for j in landmark_k.nonzero()[:, 0].tolist()}
    for i, own in enumerate(block_q.tolist()):
        groups: dict[int, list[int]] = {}
        for j, block in enumerate(block_k.tolist()):
            is_landmark = bool(landmark_k[j])
            if bool(allowed[i, j]) and not (is_landmark and block == own):
                groups.setdefault(own if is_landmark or block == own else block, []).append(j)
        share = torch.zeros_like(scores[..., i, :])
        for members in groups.values():
            share = share.index_copy(-1, torch.tensor(members), scores[..., i, members].softmax(-1))
        weights = torch.zeros_like(share)
        for number, members in groups.items():
            text = torch.tensor([j for j in members if not bool(landmark_k[j])], dtype=torch.long)
            if number == own:
                weights = weights.index_copy(-1, text, share[..., text])
            elif number in landmark_of:  # the text of a block that nothing stands for is not read
                weights = weights.index_copy(-1, text, share[..., text] * share[..., landmark_of[number], None])
        rows.append(weights)
    return torch.stack(rows, dim=-2)


def landmark_dense_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    groups: LandmarkGroups,
    *,
    scale: float | None = None,
    softcap: float | None = None,
    blend: float = 1.0,
    divergences: list[Tensor] | None = None,
) -> Tensor:
    """Attention under the grouped softmax, every block read; differentiable. What training runs, and what gathering is compared with.

    The weight of a token in another block b, P(token in b) a(b), is that of one softmax in which the token has the logit

        s_j - logsumexp_b(s) + s_landmark(b)

    with the log-sum-exp over the text of b, and a token of the query's own block its own s_j.

    Args:
        query: ``[B, H, T, D]``, of the last T tokens. key, value: ``[B, K, S, D]``, K key heads that divide H.
        scale: on the logits; 1 / sqrt(D) by default. softcap: as in Gemma 2.
        blend: from 0, plain attention over all text, to 1, landmark attention: another block's logit among the blocks is
            (1 - blend) logsumexp_b(s) + blend s_landmark(b). A model learns landmarks faster on a way from one to the other.
        divergences: a list that gets how far the landmarks are from the blocks that they stand for, a scalar to be made small in training: the
            mean over rows and heads of KL(p || q), where p is what plain attention over all text would give to the row's own block and to each earlier
            one, and q what the landmarks give them. p is taken as given. At 0, that is where s_landmark(b) = logsumexp_b(s), the two attentions are one.

    Returns:
        ``[B, H, T, D]``, in the query's dtype; the arithmetic is float32, or float64 for float64.

    Raises:
        ShapeError: the tensors do not fit each other or the groups.
    """
    check_tensors(query, key, value)
    if key.shape[2] != groups.tokens or not 1 <= query.shape[2] <= groups.tokens:
        raise ShapeError(f"the groups have {groups.tokens} tokens: expected as many keys and at most as many queries, got {key.shape[2]} and {query.shape[2]}")
    with torch.autocast(query.device.type, enabled=False):  # its products would come back in 16 bits
        return _attend(query, key, value, groups, scale, softcap, blend, divergences)


def check_tensors(query: Tensor, key: Tensor, value: Tensor) -> None:
    """Raises ShapeError unless these are queries ``[B, H, T, D]``, and keys and values ``[B, K, S, D]`` with K a divisor of H."""
    if query.dim() != 4 or key.dim() != 4 or key.shape != value.shape or query.shape[0] != key.shape[0] or query.shape[1] % key.shape[1] or query.shape[3] != key.shape[3]:
        raise ShapeError(f"expected query [B, H, T, D] and key and value [B, K, S, D] with K a divisor of H, got {[tuple(x.shape) for x in (query, key, value)]}")


def _attend(
    query: Tensor, key: Tensor, value: Tensor, groups: LandmarkGroups, scale: float | None, softcap: float | None, blend: float, divergences: list[Tensor] | None
) -> Tensor:
    wide = compute_dtype(query.dtype)
    batch, _, rows, dim = query.shape
    kv_heads = key.shape[1]
    plan = groups._plan.at(rows, query.device)
    # Columns first, rows last, the query heads of one key head side by side: every step below runs along memory.
    q_BKDGT = (query.to(wide) * (dim**-0.5 if scale is None else scale)).reshape(batch, kv_heads, -1, rows, dim).permute(0, 1, 4, 2, 3)

    def scores(k_BKCD: Tensor, q_BKDGT: Tensor) -> Tensor:
        s_BKCR = k_BKCD.to(wide) @ q_BKDGT.flatten(3)
        capped = s_BKCR if softcap is None else softcap * torch.tanh(s_BKCR / softcap)
        return capped.view(batch, kv_heads, -1, *q_BKDGT.shape[3:])

    near_BKGTD, near_BKGT = None, None
    if plan.open:
        # The trailing block without a landmark, or the questions: rows and columns are the same tokens.
        s_BKCGT = scores(key[:, :, -plan.width_open :], q_BKDGT[..., -plan.open :]) + plan.open_mask_C1T
        near_BKGT = s_BKCGT.logsumexp(2)
        near_BKRD = s_BKCGT.softmax(2).flatten(3).transpose(-1, -2) @ value[:, :, -plan.width_open :].to(wide)
        near_BKGTD = near_BKRD.view(batch, kv_heads, -1, plan.open, dim)
        if not len(plan.landmarks):
            return near_BKGTD.reshape(query.shape).to(query.dtype)
    s_BKCGT = scores(key[:, :, plan.columns], q_BKDGT)
    landmark_BKNGT = scores(key[:, :, plan.landmarks], q_BKDGT)
    open_BKGT = landmark_BKNGT.new_full(landmark_BKNGT[:, :, 0].shape, -torch.inf)
    if near_BKGT is not None:
        open_BKGT = torch.cat((open_BKGT[..., : -plan.open], near_BKGT), dim=-1)
    s_BKNWGT = s_BKCGT.view(*landmark_BKNGT.shape[:3], -1, *landmark_BKNGT.shape[3:])
    far: tuple[Tensor, Tensor, Tensor] = _ThroughLandmarks.apply(s_BKNWGT, landmark_BKNGT, open_BKGT, value[:, :, plan.columns].to(wide), plan, blend)  # type: ignore[no-untyped-call]
    out_BKRD, left_BKGT, mass_BKNGT = far
    if divergences is not None:
        divergences.append(_divergence(landmark_BKNGT, mass_BKNGT, open_BKGT.detach(), plan))
    out_BKGTD = out_BKRD.view(batch, kv_heads, -1, rows, dim)
    if near_BKGTD is not None:
        last_BKGTD = out_BKGTD[..., -plan.open :, :] + left_BKGT[..., -plan.open :, None] * near_BKGTD
        out_BKGTD = torch.cat((out_BKGTD[..., : -plan.open, :], last_BKGTD), dim=-2)
    return out_BKGTD.reshape(query.shape).to(query.dtype)


class _ThroughLandmarks(torch.autograd.Function):
    """The part of the rows that goes to blocks with a landmark, their own among them.

    With P the softmax within a block and a the softmax over own block and landmarks, the weights are P times a. Written out because
    autograd would keep and read four times as many tensors of size T x S.
    """

    @staticmethod
    def forward(ctx: Any, s_BKNWGT: Tensor, landmark_BKNGT: Tensor, open_BKGT: Tensor, v_BKCD: Tensor, plan: _Rows, blend: float) -> tuple[Tensor, Tensor, Tensor]:
        """Output ``[B, K, G T, D]``, the share that is left for the open block ``[B, K, G, T]``, and the log-sum-exp of each block ``[B, K, N, G, T]``."""
        share = s_BKNWGT.add_(plan.mask_NW1T)  # the scores are used for nothing else: their memory is taken
        top = share.amax(3, keepdim=True)
        share.sub_(top).exp_()
        total = share.sum(3, keepdim=True)
        share.div_(total)
        mass = (top + total.log()).squeeze(3)
        gate = torch.cat((torch.where(plan.own_N1T, mass, torch.lerp(mass, landmark_BKNGT, blend)) + plan.seen_N1T, open_BKGT.unsqueeze(2)), dim=2).softmax(2)
        weights = (share * gate[:, :, :-1].unsqueeze(3)).flatten(2, 3).flatten(3)
        ctx.plan, ctx.blend = plan, blend
        ctx.save_for_backward(share, gate, v_BKCD)
        ctx.mark_non_differentiable(mass)
        return weights.transpose(-1, -2) @ v_BKCD, gate[:, :, -1].clone(), mass

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, d_BKRD: Tensor, d_open_BKGT: Tensor, _: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, None, None]:
        """Gradients of the four tensors of :meth:`forward`."""
        share, gate, v_BKCD = ctx.saved_tensors
        far = gate[:, :, :-1]
        d_v = (share * far.unsqueeze(3)).flatten(2, 3).flatten(3) @ d_BKRD
        d_share = (v_BKCD @ d_BKRD.transpose(-1, -2)).view(share.shape).mul_(share)
        d_gate = torch.cat((d_share.sum(3), d_open_BKGT.unsqueeze(2)), dim=2)
        d_logit = gate * (d_gate - (gate * d_gate).sum(2, keepdim=True))
        d_far = d_logit[:, :, :-1]
        # d s = P (a (dP - sum P dP) + d logsumexp): the log-sum-exp is the logit of the own block, and part of the others'.
        d_mass = torch.where(ctx.plan.own_N1T, d_far, (1 - ctx.blend) * d_far)
        rest = d_mass - far * d_gate[:, :, :-1]
        d_s = d_share.mul_(far.unsqueeze(3)).addcmul_(share, rest.unsqueeze(3))
        return d_s, d_far - d_mass, d_logit[:, :, -1], d_v, None, None


def _divergence(landmark_BKNGT: Tensor, mass_BKNGT: Tensor, open_BKGT: Tensor, plan: _Rows) -> Tensor:
    """Mean KL over rows; the own block has the same logit on both sides, so that its term is 0."""
    far = plan.seen_N1T.masked_fill(plan.own_N1T, -torch.inf)
    own = (mass_BKNGT + plan.seen_N1T.masked_fill(~plan.own_N1T, -torch.inf)).amax(2).maximum(open_BKGT).unsqueeze(2)
    total = torch.cat((mass_BKNGT + far, own), dim=2).logsumexp(2)
    given = torch.cat((landmark_BKNGT + far, own), dim=2).logsumexp(2)
    share = (mass_BKNGT + far - total.unsqueeze(2)).exp()
    return ((share * (mass_BKNGT - landmark_BKNGT)).sum(2) + given - total).mean()


@dataclass(frozen=True, eq=False)
class _Rows:
    """What the last so many rows need, on one device.

    Attributes:
        columns: text of the blocks that have a landmark, each padded to the longest, ``[N W]``. landmarks: ``[N]``.
        mask_NW1T: -inf on padding and on what comes later in a row's own block, else 0. own_N1T: which block is a row's own.
        seen_N1T: -inf on blocks that a row does not read, else 0.
        open: how many rows are of blocks without a landmark, the last ones. width_open: how many tokens those blocks have.
        open_mask_C1T: -inf on what they do not read of one another, else 0.
    """

    columns: Tensor
    landmarks: Tensor
    mask_NW1T: Tensor
    own_N1T: Tensor
    seen_N1T: Tensor
    open: int
    width_open: int
    open_mask_C1T: Tensor


class _Plan:
    """The index tensors of some groups, made once for each number of rows."""

    def __init__(self, groups: LandmarkGroups) -> None:
        self.groups = groups
        self._made: dict[tuple[int, torch.device], _Rows] = {}

    def at(self, rows: int, device: torch.device) -> _Rows:
        if (rows, device) not in self._made:
            self._made[rows, device] = self._make(rows, device)
        return self._made[rows, device]

    def _make(self, rows: int, device: torch.device) -> _Rows:
        size = self.groups.tokens
        block, landmarks = torch.tensor(self.groups.block), torch.tensor(self.groups.landmark).nonzero()[:, 0]
        closed = block[landmarks]
        first = torch.searchsorted(block, closed)
        lengths = landmarks - first
        offset = torch.arange(int(lengths.max()) if len(lengths) else 0)
        columns = (first[:, None] + offset).minimum(landmarks[:, None] - 1)
        at, allowed = torch.arange(size - rows, size), self.groups.allowed(rows)
        own = closed[:, None] == block[at]
        hidden = (offset >= lengths[:, None])[:, :, None] | (own[:, None] & (columns[:, :, None] > at))
        seen = own | allowed[:, landmarks].T
        width_open = int((~torch.isin(block, closed)).sum())
        open = min(rows, width_open)
        near = (block[size - width_open :, None] == block[size - open :]) & (torch.arange(size - width_open, size)[:, None] <= torch.arange(size - open, size))

        def closing(hidden: Tensor) -> Tensor:
            return torch.zeros(hidden.shape).masked_fill(hidden, -torch.inf).unsqueeze(-2).to(device)

        moved = (columns.flatten().to(device), landmarks.to(device))
        return _Rows(*moved, closing(hidden), own.unsqueeze(-2).to(device), closing(~seen), open, width_open, closing(~near))
