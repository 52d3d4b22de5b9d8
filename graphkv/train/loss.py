"""The loss of an episode, and what is counted beside it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from graphkv.attention import LandmarkHelp
from graphkv.model import GraphModel
from graphkv.train.episode import Episode
from graphkv_kernels import LandmarkGroups


@dataclass(frozen=True)
class Counts:
    """`loss`: mean cross-entropy of the answer tokens (natural log). `text_loss`: of the documents' own, 0 where it was not asked for.

    `divergence`: of landmarks from their blocks, 0 where it was not asked for.
    `right` of `tokens` answer tokens are the most likely ones; `exact` of `answers` answers are so to their end.
    """

    loss: float
    text_loss: float
    right: int
    tokens: int
    exact: int
    answers: int
    divergence: float = 0.0


def episode_loss(
    model: GraphModel, episode: Episode, *, text_weight: float = 0.0, landmark_weight: float = 0.0, blend: float = 1.0, kernel: str = "gather"
) -> tuple[Tensor, Counts]:
    """Cross-entropy on the answers and their end token, plus `text_weight` times that on the documents' own tokens; a scalar with a gradient.

    Under landmarks, plus `landmark_weight` times their divergence from the blocks that they stand for, the mean over the layers, and
    their share `blend` in attention; see :func:`graphkv_kernels.landmark_dense_attention`.
    """
    text = episode.text_at if text_weight else episode.text_at[:0]
    rows = torch.cat((episode.answer_at, text)).to(model.device)
    divergences: list[Tensor] | None = [] if landmark_weight else None
    help = LandmarkHelp(blend, divergences) if isinstance(episode.pattern, LandmarkGroups) else None
    logits = model.packed_logits(episode.token_ids, episode.positions, episode.pattern, impl=kernel, keep=rows, help=help).float()
    answers = len(episode.answer_at)
    wanted = episode.answer_ids.to(logits.device)
    loss = answer_loss = F.cross_entropy(logits[:answers], wanted)
    text_loss = 0.0
    if len(text):
        of_text = F.cross_entropy(logits[answers:], episode.text_ids.to(logits.device))
        loss, text_loss = loss + text_weight * of_text, float(of_text.detach())
    divergence = 0.0
    if divergences:
        apart = torch.stack([d.to(loss.device) for d in divergences]).mean()
        loss, divergence = loss + landmark_weight * apart, float(apart.detach())
    right = (logits[:answers].argmax(-1) == wanted).cpu()
    whole = torch.ones(int(episode.answer_question[-1]) + 1, dtype=torch.bool)
    whole[episode.answer_question[~right]] = False
    return loss, Counts(float(answer_loss.detach()), text_loss, int(right.sum()), answers, int(whole.sum()), len(whole), divergence)
