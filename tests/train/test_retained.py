"""Retained rows beside a task: its own terms are what they were, the retain term is the divergence from the model before."""

import pytest
import torch
import training_demo as demo

from accord.models.tree import head_weight
from accord.objectives.reduction import Totals
from accord.train.preferences import answer_logps, preference_task
from accord.train.retained import NOTHING_RETAINED, Retained
from accord.train.states import freeze_states
from accord.types import Silent


def logps(model, tree):
    """Log-probabilities at each answer token, of the sequence alone."""
    answer = tree.answers[0]
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[*tree.prompt, *answer]])).logits[0]
    return torch.log_softmax(logits[len(tree.prompt) - 1 : -1].double(), -1)


@pytest.mark.parametrize("first_layer", [0, 2])
def test_both_losses_are_their_own_in_one_batch(tmp_path, first_layer):
    """KL of the first answer token, and the mean of the later ones' (`objectives.retain`), a benign row."""
    model, pairs, benign = demo.lora(first_layer), demo.trees(3, 2), demo.trees(2, 1, seed=9)
    head = head_weight(model)
    states = freeze_states(model, pairs, first_layer, [False] * 3, tmp_path, Silent())
    task = preference_task(pairs, states, head, answer_logps(model, pairs, states, head))
    both = Retained(benign, 5.0).beside(task, model, first_layer, head, head, tmp_path / "retained", Silent())
    base = [logps(model, tree) for tree in benign]
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3)
    assert both.totals(range(5)) == {"dpo": Totals(0, 3), "retain": Totals(sum(len(t.answers[0]) for t in benign), 2)}
    rows = [3, 0, 1, 4, 2]
    dpo_term, retain_term = both.terms(model, rows, both.before_step(model, rows))
    (alone,) = task.terms(model, [0, 1, 2], task.before_step(model, [0, 1, 2]))
    torch.testing.assert_close(dpo_term.losses.loss_B, alone.losses.loss_B, atol=1e-5, rtol=1e-4)
    assert retain_term.coefficient == 5.0
    for loss, tree, before in zip(retain_term.losses.loss_B, benign, base, strict=True):
        kl = (before.exp() * (before - logps(model, tree))).sum(-1)
        right = kl[0] + (kl[1:].mean() if len(kl) > 1 else 0.0)
        assert right > 0.01
        assert loss.item() == pytest.approx(right.item(), rel=1e-3)


def test_without_rows_a_task_stays_as_it_is(tmp_path):
    model, pairs = demo.lora(0), demo.trees(2, 2)
    states = freeze_states(model, pairs, 0, [False] * 2, tmp_path, Silent())
    task = preference_task(pairs, states, head_weight(model), None)
    assert NOTHING_RETAINED.beside(task, model, 0, task.parts[0].head, task.parts[0].head, tmp_path, Silent()) is task
