import math
import re
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
import training_demo as demo
from command_line import Forked
from torch import nn
from transformers import MambaConfig, MambaForCausalLM

from accord.errors import AccordError
from accord.models.adapters import scaled
from accord.models.tree import Tree, collate, head_weight, micro_batches
from accord.objectives.reduction import Totals, reduce
from accord.objectives.sft import sft
from accord.runs.tensors import load_tensors
from accord.train import offline
from accord.train.imitation import Learned, common_onsets, sft_task
from accord.train.mixture import Mixture
from accord.train.offline import Term, TrainSettings, fit
from accord.train.preferences import answer_logps, preference_task
from accord.train.states import NOTHING_FROZEN, freeze_states
from accord.train.watch import Work
from accord.types import Silent

LN2 = math.log(2)


class ConstantTask:
    """A language model that says the same distribution everywhere: the loop without any network.

    `poison[i]`, where there is one, is added to row i's log-probabilities.
    """

    def __init__(self, answers, poison=None):
        self.trees = [Tree((3,), (tuple(a),)) for a in answers]
        self.poison = poison or {}

    def prepare(self, model):
        pass

    def totals(self, rows):
        return {"sft": Totals(sum(len(self.trees[i].answers[0]) for i in rows), len(rows))}

    def batches(self, model, rows, token_budget):
        return micro_batches(self.trees, rows, token_budget)

    def work(self, model, micros, prepared):
        return Work(
            computed=len(micros), useful=len(micros), tokens=sum(self.trees[i].length for m in micros for i in m)
        )

    def before_step(self, model, rows):
        return None

    def terms(self, model, rows, shared):
        batch = collate([self.trees[i] for i in rows])
        logps_BT, mask_BT = batch.by_answer(model.logits.log_softmax(-1)[batch.targets_N])
        logps_BT = torch.stack([logps_BT[b] + self.poison.get(row, 0.0) for b, row in enumerate(rows)])
        return [Term("sft", sft(logps_BT, mask_BT))]


class ConstantModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor([0.5, 0.25, 0.125, 0.125]).log())


def run(model, task, folder, progress=None, clock=None, **settings):
    more = {"clock": clock} if clock else {}
    return fit(model, task, TrainSettings(**settings), folder, progress or Silent(), "sft", **more)


@pytest.mark.parametrize("token_budget", [1, 1000], ids=["accumulated", "one batch, padded"])
def test_train_01_gradaccum_denominator(tmp_path, token_budget):
    """train-01-gradaccum-denominator through the loop: answers 'c c' and 'a' x 8 at learning rate 0.

    14 ln 2 / 10 = 0.970406 in one padded batch or in two micro-batches; the gradient of a logit is p(v) - n(v) / 10.
    """
    model = ConstantModel()
    result = run(
        model,
        ConstantTask([[2, 2], [0] * 8]),
        tmp_path,
        learning_rate=0.0,
        token_budget=token_budget,
        max_grad_norm=1e9,
    )
    (step,) = result.steps
    assert step.loss == pytest.approx(0.970406, abs=1e-6)
    assert step.metrics["sft/nll"] == pytest.approx((3 * LN2 + LN2) / 2)  # a mean over examples, and named so
    assert model.logits.grad.tolist() == pytest.approx([-0.3, 0.25, -0.075, 0.125], abs=1e-6)
    assert model.logits.tolist() == ConstantModel().logits.tolist()


def test_accumulation_steps_of_a_launch_configuration_divide_nothing(tmp_path, monkeypatch):
    """The gradient of `test_train_01_gradaccum_denominator`, whose norm is sqrt(0.09 + 0.0625 + 0.005625 + 0.015625) = 0.416833.

    A deepspeed_config with `gradient_accumulation_steps: 4` hands that number on in the environment.
    """
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    model = ConstantModel()
    result = run(model, ConstantTask([[2, 2], [0] * 8]), tmp_path, learning_rate=0.0)
    assert result.steps[0].metrics["gradient_norm"] == pytest.approx(0.416833, abs=1e-6)
    assert model.logits.grad.tolist() == pytest.approx([-0.3, 0.25, -0.075, 0.125], abs=1e-6)


def test_a_step_makes_the_answers_likelier(tmp_path):
    model = ConstantModel()
    run(model, ConstantTask([[2, 2], [2]]), tmp_path, learning_rate=0.1, epochs=5)
    assert model.logits.softmax(-1)[2].item() > 0.125


@pytest.mark.parametrize("first_layer", [0, 2])
def test_sft_lowers_its_loss(tmp_path, first_layer):
    model, task = demo.sft_problem(tmp_path, first_layer=first_layer)
    result = run(model, task, tmp_path, epochs=20, rows_per_step=24, learning_rate=3e-2)
    first, last = result.steps[0], result.steps[-1]
    assert last.metrics["sft/nll"] < 0.7 * first.metrics["sft/nll"]
    assert first.metrics["retain/kl"] == pytest.approx(0, abs=1e-5)
    assert result.skipped == 0


def test_retained_rows_stay_nearer_to_the_base_model_than_without_the_term(tmp_path):
    drift = {}
    for coefficient in (0.0, 1.0):
        folder = tmp_path / str(coefficient)
        model, task = demo.sft_problem(folder, retain_coefficient=coefficient)
        result = run(model, task, folder, epochs=20, rows_per_step=24, learning_rate=3e-2)
        drift[coefficient] = result.steps[-1].metrics["retain/kl"]
    assert 0 < drift[1.0] < 0.5 * drift[0.0]


def test_dpo_lowers_its_loss_and_learns_the_preference(tmp_path):
    model, task = demo.dpo_problem(tmp_path)
    result = run(model, task, tmp_path, epochs=12, rows_per_step=16, learning_rate=2e-2)
    assert result.steps[0].loss == pytest.approx(LN2, abs=1e-5)
    assert result.steps[-1].loss < 0.5
    assert result.steps[-1].metrics["dpo/margin"] > 0
    assert result.steps[-1].metrics["dpo/accuracy"] == 1


def test_only_what_is_trainable_moves(tmp_path):
    model, task = demo.sft_problem(tmp_path)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    run(model, task, tmp_path, rows_per_step=8)
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved
    assert all("lora_" in name for name in moved)
    assert not model.training
    assert not any("forward" in vars(m) for m in model.modules())


@pytest.mark.parametrize("problem", [demo.sft_problem, demo.dpo_problem])
def test_one_steps_gradient_and_weights_do_not_depend_on_the_token_budget(tmp_path, problem):
    found = []
    for budget in (1, 50, 100_000):
        folder = tmp_path / str(budget)
        model, task = problem(folder)
        result = run(model, task, folder, rows_per_step=99, token_budget=budget, max_grad_norm=1e9)
        found.append((result.steps[0].loss, [p.grad for p in demo.trained(model)], demo.trained(model)))
    loss, grads, weights = found[0]
    assert max(g.abs().max().item() for g in grads) > 1e-3
    for other_loss, other_grads, other_weights in found[1:]:
        # A few units in the last place: the loss is of the order of 18, where one unit is 2e-6.
        assert other_loss == pytest.approx(loss, rel=5e-7)
        for a, b in zip([*grads, *weights], [*other_grads, *other_weights], strict=True):
            torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("token_budget", [1, 1000])
def test_train_03_dpo_keep_end_all_pad(tmp_path, token_budget):
    """train-03-dpo-keep-end-all-pad. No answer is ever cut or padded away: 1 and 9 supervised tokens, all metrics finite."""
    model = demo.lora(std=0.1)
    rows = [Tree((11, 12, 13), ((21,), tuple(range(31, 40))))]
    batch = collate(rows)
    assert torch.bincount(batch.answer_N).tolist() == [1, 9]
    assert batch.targets_N.tolist() == [21, *range(31, 40)]
    states = freeze_states(model, rows, 2, [False], tmp_path, Silent())
    reference = answer_logps(model, rows, states, head_weight(model), Silent(), "reference")
    task = preference_task(rows, states, head_weight(model), reference)
    result = run(model, task, tmp_path, token_budget=token_budget, learning_rate=1e-2, epochs=3)
    assert result.skipped == 0
    assert all(math.isfinite(value) for step in result.steps for value in (step.loss, *step.metrics.values()))
    assert result.steps[0].loss == pytest.approx(LN2, abs=1e-6)
    assert result.steps[-1].loss < LN2


def test_train_05_dpo_ref_must_be_sft_adapter(tmp_path):
    """train-05-dpo-ref-must-be-sft-adapter. Before any update model and reference agree: ln 2 = 0.693147, rewards 0.

    With the adapter switched off as reference they do not: the fault that this case is about.
    """
    logs = {}
    for name, scale in (("sft adapter", 1.0), ("base", 0.0)):
        model, task = demo.dpo_problem(tmp_path / name, reference_scale=scale, std=0.5)
        (logs[name],) = run(model, task, tmp_path / name, rows_per_step=99, learning_rate=0.0).steps
    good = logs["sft adapter"]
    assert good.loss == pytest.approx(LN2, abs=1e-6)
    for metric in ("margin", "chosen_reward", "rejected_reward"):
        assert good.metrics[f"dpo/{metric}"] == pytest.approx(0, abs=1e-5)
    assert abs(logs["base"].loss - LN2) > 1e-3
    assert abs(logs["base"].metrics["dpo/chosen_reward"]) > 1e-3


def test_train_08_a_nan_that_is_trained_on_is_skipped_counted_and_seen(tmp_path):
    """train-08-masked-nan-leaks, second variant: an unmasked NaN is not hidden. Its step changes nothing and its log says NaN.

    A run of which that was the only step has no result.
    """
    model = ConstantModel()
    with pytest.raises(AccordError, match="the only step"):
        run(model, ConstantTask([[2, 2]], {0: math.nan}), tmp_path / "one", weight_decay=0.5)
    assert torch.equal(model.logits, ConstantModel().logits)
    result = run(model, ConstantTask([[2, 2], [1]], {0: math.nan}), tmp_path, rows_per_step=1)
    assert result.skipped == 1
    assert sum(math.isnan(step.loss) for step in result.steps) == 1


@pytest.mark.parametrize("stray", [math.nan, math.inf, -math.inf])
def test_a_step_that_is_not_finite_is_skipped_and_the_others_are_taken(tmp_path, stray):
    """6 rows, one a step: the poisoned one moves nothing, the other five do."""
    moves = [ConstantModel().logits.detach()]

    class Watch(Silent):
        def advance(self, n=1, note=""):
            moves.append(model.logits.detach().clone())

    model = ConstantModel()
    result = run(model, ConstantTask([[2]] * 6, {4: stray}), tmp_path, Watch(), rows_per_step=1)
    still = [torch.equal(a, b) for a, b in pairwise(moves)]
    assert result.skipped == sum(still) == 1
    assert [not math.isfinite(s.loss) for s in result.steps] == still
    assert bool(torch.isfinite(model.logits).all())


def test_a_finite_loss_with_an_infinite_gradient_is_skipped(tmp_path):
    class Root(ConstantTask):
        def terms(self, model, rows, shared):
            (term,) = super().terms(model, rows, shared)
            zero = (model.logits - model.logits.detach()).sum() if 0 in rows else torch.ones(())
            return [replace(term, losses=replace(term.losses, loss_B=term.losses.loss_B + zero.sqrt()))]

    result = run(ConstantModel(), Root([[2], [2]]), tmp_path, rows_per_step=1)
    assert all(math.isfinite(step.loss) for step in result.steps)
    assert result.skipped == 1
    assert [math.isfinite(step.metrics["gradient_norm"]) for step in result.steps].count(False) == 1


def test_a_short_run_whose_steps_were_all_skipped_has_no_result_asked_again_either(tmp_path):
    task = ConstantTask([[2]] * 4, dict.fromkeys(range(4), math.nan))
    for _ in range(2):
        with pytest.raises(AccordError, match="4 steps in a row"):
            run(ConstantModel(), task, tmp_path, rows_per_step=1)


def test_ten_in_a_row_stop_the_training(tmp_path):
    task = ConstantTask([[2]] * 12, dict.fromkeys(range(12), math.nan))
    steps = []

    class Count(Silent):
        def advance(self, n=1, note=""):
            steps.append(n)

    with pytest.raises(AccordError, match="10 steps in a row"):
        run(ConstantModel(), task, tmp_path, Count(), rows_per_step=1)
    assert len(steps) == 9


def test_nine_in_a_row_do_not(tmp_path):
    rows = [step[0] for step in offline.steps_of_epoch([[i] for i in range(20)], 1, 0, 0)]
    bad = {row: math.nan for i, row in enumerate(rows) if i != 9 and i < 19}
    result = run(ConstantModel(), ConstantTask([[2]] * 20, bad), tmp_path, rows_per_step=1)
    assert result.skipped == 18


def test_ten_in_a_row_are_counted_across_a_resume(tmp_path):
    task = ConstantTask([[2]] * 12, dict.fromkeys(range(12), math.nan))
    with pytest.raises(StopError):
        run(ConstantModel(), task, tmp_path, StopAfter(6), demo.Clock(), rows_per_step=1)
    left = StopAfter(99)
    with pytest.raises(AccordError, match="10 steps in a row"):
        run(ConstantModel(), task, tmp_path, left, demo.Clock(), rows_per_step=1)
    assert 99 - left.left == 9 - 5


def test_nothing_to_train_on_and_nothing_trainable(tmp_path):
    with pytest.raises(AccordError, match="nothing to train on"):
        run(ConstantModel(), ConstantTask([]), tmp_path)
    with pytest.raises(AccordError, match="no trainable weights"):
        run(ConstantModel().requires_grad_(False), ConstantTask([[2]]), tmp_path)


class StopError(Exception):
    """What the tests interrupt a training with."""


class StopAfter(Silent):
    """Interrupts after a step that no checkpoint holds yet."""

    def __init__(self, n_steps):
        self.left = n_steps

    def advance(self, n=1, note=""):
        if note:
            self.left -= 1
            if self.left == 0:
                raise StopError


class Around:
    """A task that is another one in all that it does not do itself."""

    def __init__(self, task):
        self.task = task

    def __getattr__(self, name):
        return getattr(self.task, name)


class StopInside(Around):
    """A task that is interrupted at its n-th micro-batch, in the middle of a step."""

    def __init__(self, task, n):
        super().__init__(task)
        self.left = n

    def terms(self, model, rows, shared):
        self.left -= 1
        if self.left == 0:
            raise StopError
        return self.task.terms(model, rows, shared)


PROBLEMS = {"sft": demo.sft_problem, "dpo": demo.dpo_problem}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The bits of a training that never stopped and, what must change nothing, that never wrote a checkpoint on its way."""
    found = {}
    for name, problem in PROBLEMS.items():
        folder = tmp_path_factory.mktemp(name)
        model, task = problem(folder)
        found[name] = demo.bits(model, fit(model, task, demo.SETTINGS, folder, Silent(), name, lambda: 0.0))
    return found


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("stops", [[1], [2], [5], [8], [3, 1, 2]], ids=str)
def test_a_resumed_training_gives_the_same_bits(tmp_path, uninterrupted, name, stops):
    """Each attempt begins as a new process would: from the base model, the data and the folder alone."""
    for n_steps in stops:
        model, task = PROBLEMS[name](tmp_path)
        with pytest.raises(StopError):
            fit(model, task, demo.SETTINGS, tmp_path, StopAfter(n_steps), name, demo.Clock())
    torch.manual_seed(12345)  # a new process has another generator state
    model, task = PROBLEMS[name](tmp_path)
    result = fit(model, task, demo.SETTINGS, tmp_path, Silent(), name, demo.Clock())
    assert demo.bits(model, result) == uninterrupted[name]


@pytest.mark.parametrize("n", [1, 4, 13, 22])
def test_a_training_stopped_inside_a_step_gives_the_same_bits(tmp_path, uninterrupted, n):
    model, task = demo.sft_problem(tmp_path)
    with pytest.raises(StopError):
        fit(model, StopInside(task, n), demo.SETTINGS, tmp_path, Silent(), "sft", demo.Clock())
    assert not any("forward" in vars(m) for m in model.modules())
    model, task = demo.sft_problem(tmp_path)
    result = fit(model, task, demo.SETTINGS, tmp_path, Silent(), "sft", demo.Clock())
    assert demo.bits(model, result) == uninterrupted["sft"]


def test_a_finished_training_is_read_back(tmp_path, uninterrupted):
    model, task = demo.sft_problem(tmp_path)
    first = fit(model, task, demo.SETTINGS, tmp_path, Silent(), "sft")
    model, task = demo.sft_problem(tmp_path)
    again = fit(model, StopInside(task, 1), demo.SETTINGS, tmp_path, Silent(), "sft")
    assert demo.bits(model, again) == uninterrupted["sft"]
    assert (again.steps, again.skipped) == (first.steps, first.skipped)


def test_skipped_steps_are_still_counted_after_a_resume(tmp_path):
    rows = [step[0] for step in offline.steps_of_epoch([[i] for i in range(6)], 1, 0, 0)]
    task = ConstantTask([[2]] * 6, {rows[0]: math.nan})
    with pytest.raises(StopError):
        run(ConstantModel(), task, tmp_path, StopAfter(4), demo.Clock(), rows_per_step=1)
    result = run(ConstantModel(), task, tmp_path, clock=demo.Clock(), rows_per_step=1)
    assert result.skipped == 1
    assert len(result.steps) == 6


def test_killed_at_25_random_points_and_gone_on_with_gives_the_same_bits(tmp_path):
    """Wherever that falls: in a step, in a checkpoint's write, while states are computed."""
    done = Forked(demo.main, tmp_path, 0).wait(240)
    assert done.returncode == 0, done.stderr
    n_killed, whole, *killed = done.stdout.split()
    assert n_killed == str(demo.N_KILLS) == "25"
    assert killed == [whole]


def test_another_seed_gives_other_bits(tmp_path, uninterrupted):
    """The control of the tests above: the digest does see a difference."""
    model, task = demo.sft_problem(tmp_path)
    result = fit(model, task, replace(demo.SETTINGS, seed=4), tmp_path, Silent(), "sft")
    assert demo.bits(model, result) != uninterrupted["sft"]


def test_the_schedule_by_hand():
    """10 steps, 20 % warm-up: 1/2, 1, then half a cosine from 1 over 8 steps: cos(pi 4/8) = 0 gives 1/2; never below 5 %."""
    rates = [offline.schedule(step, 10, 0.2) for step in range(10)]
    assert rates[:3] == pytest.approx([0.5, 1.0, 1.0])
    assert rates[6] == pytest.approx(0.5)
    assert rates[9] == pytest.approx(0.05)
    assert offline.schedule(0, 1, 0.1) == 1


def test_per_answer_by_hand():
    """Answers of 2, 1 and 3 tokens, flat 1 ... 6."""
    batch = collate([Tree((5,), ((6, 7), (8,))), Tree((5,), ((6, 7, 8),))])
    values_BT, mask_BT = batch.by_answer(torch.arange(1.0, 7.0))
    assert values_BT.tolist() == [[1, 2, 0], [3, 0, 0], [4, 5, 6]]
    assert mask_BT.int().tolist() == [[1, 1, 0], [1, 0, 0], [1, 1, 1]]


def test_paths_of_one_retained_row_count_as_rows_of_one_path(tmp_path):
    """A retained row with two paths has the loss of two rows with one each: the mean over paths, beside a learned row."""
    model = demo.lora(std=0.3)
    prompt, first, second = (0, 9, 8, 7), (5, 6, 4), (3, 2)
    learned = Tree((0, 9, 8), ((7, 6, 5, 1),))
    found = []
    for name, kept in (
        ("tree", [Tree(prompt, (first, second))]),
        ("rows", [Tree(prompt, (first,)), Tree(prompt, (second,))]),
    ):
        rows = [learned, *kept]
        (tmp_path / name).mkdir()
        with scaled(model, 0.0):
            states = freeze_states(model, rows, 2, [False] + [True] * len(kept), tmp_path / name, Silent())
        head = head_weight(model)
        task = sft_task(rows, [True] + [False] * len(kept), states, head, head, onsets=(3, 7), retain_coefficient=4.0)
        totals = task.totals(range(len(rows)))
        assert totals == {"sft": Totals(4, 1), "retain": Totals(5, 2)}
        everything = range(len(rows))
        terms = task.terms(model, everything, task.before_step(model, everything))
        assert [t.group for t in terms] == ["sft", "sft", "retain"]
        found.append([t.coefficient * reduce(t.losses, totals[t.group]).item() for t in terms])
    assert found[0] == pytest.approx(found[1], rel=1e-5)
    assert found[0][2] > 0.01


def test_common_onsets_by_hand():
    """Of 25 learned answers 23 begin with 5, one with 6 and one with 7, at 4 % each; what is retained does not count."""
    first = [5] * 23 + [6, 7] + [9] * 30
    rows = [Tree((1,), ((token, 2),)) for token in first]
    assert common_onsets(rows, [i < 25 for i in range(55)]) == (5, 6, 7)
    assert common_onsets([*rows[:25], Tree((1,), ((8,),))], [True] * 26) == (5,)
    assert common_onsets(rows, [False] * 55) == ()


class Narrow(Around):
    """A task for which memory runs out where a batch has more rows than `most`."""

    def __init__(self, task, most, error):
        super().__init__(task)
        self.most, self.error = most, error

    def terms(self, model, rows, shared):
        terms = self.task.terms(model, rows, shared)
        if len(rows) > self.most:
            raise self.error
        return terms


def what_the_cpu_says():
    """The allocator's own error, for more bytes than any machine has."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    return caught.value


OUT_OF_MEMORY = [torch.OutOfMemoryError("CUDA out of memory."), what_the_cpu_says()]


class Told(Silent):
    def __init__(self):
        self.lines = []

    def say(self, line):
        self.lines.append(line)


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
def test_where_memory_runs_out_batches_become_smaller_and_nothing_else_changes(tmp_path, error):
    """Budgets 400, 200, 100, ... tokens until no batch holds more than four rows; the losses are those of the whole budget."""
    progress, results = Told(), []
    for folder, most in (("plain", 99), ("narrow", 4)):
        (tmp_path / folder).mkdir()
        model, task = demo.sft_problem(tmp_path / folder)
        dials = replace(demo.SETTINGS, token_budget=400)
        result = fit(model, Narrow(task, most, error), dials, tmp_path / folder, progress, "sft")
        results.append(torch.tensor([step.loss for step in result.steps]))
    torch.testing.assert_close(results[0], results[1], atol=1e-5, rtol=0)
    assert re.fullmatch(r"sft: memory ran out; batches of \d+ tokens from here on, not 400", progress.lines[0])
    assert len({line.split("not ")[1] for line in progress.lines}) == len(progress.lines) < 5
    kept = load_tensors(tmp_path / "narrow" / "checkpoint.safetensors")["token_budget"]
    assert kept in {400 >> n for n in range(1, 6)}
    assert f"batches of {kept} tokens" in progress.lines[-1]


def test_a_row_that_does_not_fit_alone_ends_the_run_and_says_so(tmp_path):
    model, task = demo.sft_problem(tmp_path)
    with pytest.raises(AccordError, match=r"sft: memory ran out on one row alone, of up to .* tokens"):
        fit(model, Narrow(task, 0, OUT_OF_MEMORY[0]), demo.SETTINGS, tmp_path, Silent(), "sft")


def test_any_other_error_rises(tmp_path):
    model, task = demo.sft_problem(tmp_path)
    with pytest.raises(RuntimeError, match="sizes"):
        fit(model, Narrow(task, 0, RuntimeError("sizes differ")), demo.SETTINGS, tmp_path, Silent(), "sft")


def test_every_step_is_measured_and_a_warning_is_said_once(tmp_path):
    class Watching(Told):
        def __init__(self):
            super().__init__()
            self.steps = []

        def measure(self, stage, step, values):
            self.steps.append((stage, step, values))

    progress = Watching()
    model, task = demo.dpo_problem(tmp_path)
    result = fit(model, task, replace(demo.SETTINGS, epochs=12, learning_rate=1e-2), tmp_path, progress, "DPO")
    assert [(stage, step) for stage, step, _ in progress.steps] == [("DPO", i) for i in range(len(result.steps))]
    assert {
        "loss",
        "dpo/accuracy",
        "dpo/chosen_reward",
        "gradient_norm",
        "learning_rate",
        "tokens_per_s",
        "dpo/entropy",
        "useful_positions",
        "share_of_matrix_peak",
    } <= set(progress.steps[0][2])
    assert [values["loss"] for _, _, values in progress.steps] == [step.loss for step in result.steps]
    # Sixteen pairs at a high rate: they are soon all told apart.
    assert sum("accuracy is 100%" in line for line in progress.lines) == 1


@pytest.mark.parametrize(("between", "times"), [(20.0, 9), (1e9, 2)], ids=["quick to write", "slow to write"])
def test_a_checkpoint_that_takes_long_is_written_less_often(tmp_path, monkeypatch, between, times):
    """8 steps, a checkpoint due after each, and the last one. What takes a millisecond 1e9 times over comes once in the run."""
    written = []
    save = offline.save
    monkeypatch.setattr(offline, "save", lambda *a: written.append(1) or save(*a))
    monkeypatch.setattr(offline, "LEAST_BETWEEN", between)
    run(ConstantModel(), ConstantTask([[2]] * 8), tmp_path, None, demo.Clock(), rows_per_step=1)
    assert len(written) == times


def test_a_model_without_attention_trains(tmp_path):
    config = MambaConfig(vocab_size=60, hidden_size=32, num_hidden_layers=2, state_size=4)
    model, trees = MambaForCausalLM(config).requires_grad_(True), demo.trees(8, 1)
    task = Mixture(trees, [0] * 8, (Learned(trees, head_weight(model)),), NOTHING_FROZEN)
    result = run(model, task, tmp_path, rows_per_step=8, epochs=8, learning_rate=1e-2)
    assert result.steps[-1].loss < result.steps[0].loss
