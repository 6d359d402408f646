"""A student that reads the prompt alone is brought to a teacher that read more: the part and what measures it."""

import math

import pytest
import torch
import training_demo as demo

from accord.models.adapters import scaled
from accord.models.tree import Tree, collate, head_weight
from accord.objectives.reduction import reduce
from accord.train.imitation import distillation_task, teacher_kl
from accord.train.offline import TrainSettings, fit
from accord.train.states import NOTHING_FROZEN, FrozenStates, forget_states, freeze_states
from accord.types import Silent


def after_another_prompt(rows):
    """The same answers, after a prompt with three tokens put before it."""
    return [Tree((0, 11, 12, *t.prompt), t.answers) for t in rows]


def task_for(model, rows, teacher_rows, folder, first_layer=0):
    teacher = freeze_states(model, teacher_rows, 0, [True] * len(rows), folder / "teacher", Silent())
    states = freeze_states(model, rows, first_layer, [False] * len(rows), folder, Silent())
    head = head_weight(model)
    return distillation_task(rows, states, teacher, head, head), teacher


def loss_of(task, model):
    rows = range(len(task.trees))
    (term,) = task.terms(model, rows, task.before_step(model, rows))
    return reduce(term.losses, task.totals(rows)["distillation"]), term


def plain_kl(model, tree, teacher_tree):
    """KL(teacher || student) at each answer token, from the whole model's logits of each sequence alone."""
    answer = tree.answers[0]
    logps = []
    for t in (teacher_tree, tree):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([[*t.prompt, *answer]])).logits[0]
        logps.append(torch.log_softmax(logits[len(t.prompt) - 1 : -1].double(), -1))
    return (logps[0].exp() * (logps[0] - logps[1])).sum(-1)


@pytest.mark.parametrize("first_layer", [0, 2])
def test_where_the_teacher_reads_the_same_prompt_nothing_is_lost(tmp_path, first_layer):
    model, rows = demo.lora(first_layer), demo.trees(5, 1)
    task, teacher = task_for(model, rows, rows, tmp_path, first_layer)
    assert loss_of(task, model)[0].item() == pytest.approx(0.0, abs=1e-6)
    head = head_weight(model)
    assert teacher_kl(model, rows, teacher, head, head, Silent(), "").tolist() == pytest.approx([0.0] * 5, abs=1e-6)


@pytest.mark.parametrize("first_layer", [0, 2])
def test_the_loss_is_the_divergence_from_a_teacher_that_read_another_prompt(tmp_path, first_layer):
    """Summed over all answers' tokens, over their number; the measure is each row's own mean."""
    model, rows = demo.lora(first_layer), demo.trees(5, 1)
    teacher_rows = after_another_prompt(rows)
    task, teacher = task_for(model, rows, teacher_rows, tmp_path, first_layer)
    right = [plain_kl(model, *pair) for pair in zip(rows, teacher_rows, strict=True)]
    assert min(x.mean() for x in right) > 0.01
    loss, term = loss_of(task, model)
    assert loss.item() == pytest.approx(torch.cat(right).mean().item(), rel=1e-4)
    assert term.losses.metrics["kl"].tolist() == pytest.approx([x.mean().item() for x in right], rel=1e-4)
    head = head_weight(model)
    measured = teacher_kl(model, rows, teacher, head, head, Silent(), "")
    assert measured.tolist() == pytest.approx([x.mean().item() for x in right], rel=1e-4)


def test_a_divergence_by_hand():
    """Over three tokens the teacher says (1/2, 1/4, 1/4), the student 1/3 each: 1/2 ln 3/2 + 1/2 ln 3/4 = ln 3 - 3/2 ln 2."""
    head = torch.eye(3)
    teacher = FrozenStates(0, {}, {0: torch.tensor([[0.5, 0.25, 0.25]]).log()})
    task = distillation_task([Tree((0,), ((1,),))], NOTHING_FROZEN, teacher, head, head)
    batch = collate(task.trees)
    (losses,) = task.parts[0].losses(batch, torch.zeros(1, 2, 3), [0], None)
    assert losses.loss_B.item() == pytest.approx(math.log(3) - 1.5 * math.log(2), abs=1e-6)
    assert losses.unit == "token"


@pytest.mark.parametrize("first_layer", [0, 2])
def test_the_student_comes_nearer_to_the_teacher(tmp_path, first_layer):
    model, rows = demo.lora(first_layer), demo.trees(12, 1)
    task, teacher = task_for(model, rows, after_another_prompt(rows), tmp_path, first_layer)
    head = head_weight(model)
    with scaled(model, 0.0):
        before = teacher_kl(model, rows, teacher, head, head, Silent(), "").mean()
    fit(model, task, TrainSettings(epochs=8, rows_per_step=6, learning_rate=2e-2), tmp_path, Silent(), "distillation")
    after = teacher_kl(model, rows, teacher, head, head, Silent(), "").mean()
    assert after < 0.5 * before


def test_the_teachers_states_are_forgotten_with_the_others(tmp_path):
    model, rows = demo.lora(2), demo.trees(3, 1)
    task_for(model, rows, rows, tmp_path, 2)
    assert len(list(tmp_path.rglob("states-*.safetensors"))) == 2
    forget_states(tmp_path)
    assert not list(tmp_path.rglob("states-*.safetensors"))
