"""What a model says of sampled answers, token by token, without learning from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from accord.models.head import Head, token_logps
from accord.models.sharing import batches
from accord.models.tree import FORWARD_TOKENS, Tree
from accord.train.parallel import gather, own_batches
from accord.train.states import FrozenStates


@dataclass(frozen=True, slots=True)
class Said:
    """One row's log-probabilities [N], all answers' in order; of a value model its values [N]; where asked, last states [N, D]."""

    logps: Tensor
    values: Tensor | None = None
    states: Tensor | None = None


@torch.no_grad()
def said_by(
    model: nn.Module,
    trees: Sequence[Tree],
    states: FrozenStates,
    head: Head,
    value_head: nn.Linear | None = None,
    with_states: bool = False,
    temperature: float = 1.0,
) -> list[Said]:
    """Return what the model as it is now says of every row, on the CPU; log-probabilities are those at `temperature`.

    Processes that train together share the rows out.
    """
    found: dict[int, Said] = {}
    for rows in own_batches(batches(model, trees, range(len(trees)), FORWARD_TOKENS), model):
        batch, hidden_BLD = states.last_states(model, trees, rows)
        hidden_ND = batch.predicting(hidden_BLD)
        logps_N = token_logps(hidden_ND / temperature, head, batch.targets_N).logps_N.cpu()
        values_N = None
        if value_head is not None:
            values_N = F.linear(hidden_ND.float(), value_head.weight.float(), value_head.bias).squeeze(-1).cpu()
        for n, i in enumerate(rows):
            own_N = (batch.tree_N == n).cpu()
            found[i] = Said(
                logps_N[own_N],
                None if values_N is None else values_N[own_N],
                hidden_ND[own_N.to(hidden_ND.device)].cpu() if with_states else None,
            )
    everywhere = {i: said for part in gather(found) for i, said in part.items()}
    return [everywhere[i] for i in range(len(trees))]
