"""Trains the classifier of `classifier.py` with its encoder: MiniLM and the logistic head on it, both by gradient.

MiniLM rather than a causal model with LoRA and a scalar head, of which `models/reward.py` has most: outside its embeddings it
holds 11M weights and the starter model 106M, so that passes over some hundred answers take minutes of one core; and the one short
loop here does what there would need a loss for single labelled answers, a part of the mixture, a recipe and a name for the scorer.

It begins as the logistic regression on the untrained encoder's vectors, that is as the other kind of classifier: from a random
head the first steps spoil what the encoder knows (Kumar et al. 2022, arXiv 2202.10054), and what is read beside the vectors keeps
its weight. There is no dropout, so that the seed fixes the order of the rows and nothing else is random; the last bits depend
on the number of threads. Left out: a choice of
encoder; reading request and answer as one text, which on some dozen labels is much the worse judge (docs/log.md).

Shapes: N transcripts, B of a step, D hidden size, F features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from accord.models.embedder import Embedder
from accord.scorers.classifier import ClassifierScorer, checked_labels, features, fit_line, request_of
from accord.types import Progress, Silent, Transcript

EPOCHS = 4
ROWS_PER_STEP = 8
LEARNING_RATE = 5e-5
HEAD_LEARNING_RATE = 1e-3
_WARM_UP = 0.1
_WEIGHT_DECAY = 0.01
_MAX_NORM = 1.0
_DRAWN_TOGETHER = 64


def train_finetuned(
    transcripts: Sequence[Transcript],
    complied: Sequence[bool],
    trained_on: str = "",
    seed: int = 0,
    progress: Progress | None = None,
) -> ClassifierScorer:
    """Fit encoder and head by the mean of -log P(label); `trained_on` says on what, and is kept with them.

    Raises:
        DataError: as many labels as transcripts are not there, or only one of the two labels is.
        ModelError: the sentence encoder is not installed.
    """
    progress = progress or Silent()
    labels_N = checked_labels(transcripts, complied)
    embedder = Embedder()
    features_NF = features(transcripts, embedder)
    line = fit_line(features_NF, labels_N, trained_on)
    head = _head(line.slope, line.intercept)
    steps = _steps(transcripts, seed)
    optimizer, schedule = _optimizer(embedder.model, head, len(steps))
    targets_N, fixed_NF = torch.tensor(labels_N, dtype=torch.float32), torch.tensor(features_NF, dtype=torch.float32)
    progress.start("fine-tuning the classifier", len(steps), "steps")
    for step, rows in enumerate(steps):
        read_BF = _read([transcripts[i] for i in rows], fixed_NF[rows], embedder)
        loss = F.binary_cross_entropy_with_logits(head(read_BF).squeeze(-1), targets_N[rows])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([*embedder.model.parameters(), *head.parameters()], _MAX_NORM)
        optimizer.step()
        schedule.step()
        progress.measure("classifier", step, {"loss": loss.item()})
        progress.advance()
    progress.finish()
    slope = tuple(map(float, head.weight[0].tolist()))
    weights = replace(line, slope=slope, intercept=float(head.bias.item()), encoder=embedder.hash)
    return ClassifierScorer(weights, tuned=embedder)


def _read(transcripts: Sequence[Transcript], fixed_BF: Tensor, embedder: Embedder) -> Tensor:
    """Return `features` as the encoder now gives them; what it has no part in is taken from `fixed`. Shape [B, F]."""
    answers_BD = embedder.vectors([t.answer for t in transcripts])
    requests_BD = embedder.vectors([request_of(t) for t in transcripts])
    cosine_B1 = (answers_BD * requests_BD).sum(1, keepdim=True)
    return torch.cat([answers_BD, cosine_B1, fixed_BF[:, answers_BD.shape[1] + 1 :]], dim=1)


def _head(slope: Sequence[float], intercept: float) -> nn.Linear:
    head = nn.Linear(len(slope), 1)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([slope]))
        head.bias.fill_(intercept)
    return head


def _optimizer(
    encoder: nn.Module, head: nn.Module, n_steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """Return AdamW and a step size that rises over a tenth of the steps, then falls to nothing."""
    optimizer = torch.optim.AdamW(
        [
            {"params": encoder.parameters(), "lr": LEARNING_RATE},
            {"params": head.parameters(), "lr": HEAD_LEARNING_RATE},
        ],
        weight_decay=_WEIGHT_DECAY,
    )
    warm = max(1, round(_WARM_UP * n_steps))
    return optimizer, torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda k: min((k + 1) / warm, (n_steps - k) / max(1, n_steps - warm))
    )


def _steps(transcripts: Sequence[Transcript], seed: int) -> list[list[int]]:
    """Return the rows of each step, every row once an epoch, in an order that the seed alone determines.

    A step's rows are of like length among some dozens drawn together: in batches drawn anyhow half of the work is padding.
    """
    rng = np.random.default_rng(seed)
    steps: list[list[int]] = []
    for _ in range(EPOCHS):
        order = rng.permutation(len(transcripts)).tolist()
        epoch = []
        for start in range(0, len(order), _DRAWN_TOGETHER):
            drawn = sorted(order[start : start + _DRAWN_TOGETHER], key=lambda i: len(transcripts[i].answer))
            epoch += [drawn[k : k + ROWS_PER_STEP] for k in range(0, len(drawn), ROWS_PER_STEP)]
        steps += [epoch[k] for k in rng.permutation(len(epoch)).tolist()]
    return steps
