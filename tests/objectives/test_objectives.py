import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from accord.errors import AccordError
from accord.objectives.dpo import dpo
from accord.objectives.onset import onset
from accord.objectives.pairs import Pairs
from accord.objectives.reduction import Losses, Totals, masked_sum, reduce
from accord.objectives.retain import retain
from accord.objectives.sft import sft

LN2 = math.log(2)
NAN = float("nan")


def tensor(*rows, grad=False):
    return torch.tensor(rows, dtype=torch.float64, requires_grad=grad)


def mask(*rows):
    return torch.tensor(rows, dtype=torch.bool)


def pairs(chosen, rejected, ref_chosen, ref_rejected):
    one_B = torch.ones_like(chosen)
    return Pairs(chosen, rejected, one_B, one_B, ref_chosen, ref_rejected)


def test_sft_by_hand():
    """p(y) = 1/2, 1/4 for the first answer, 1/8 for the second: 1 + 2 = 3 ln 2 and 3 ln 2; 6 ln 2 over 3 tokens is 2 ln 2."""
    losses = sft(tensor([-LN2, -2 * LN2], [-3 * LN2, 0.0]), mask([1, 1], [1, 0]))
    assert losses.loss_B.tolist() == pytest.approx([3 * LN2, 3 * LN2])
    assert reduce(losses, Totals(tokens=3, examples=2)).item() == pytest.approx(2 * LN2)
    assert losses.metrics["nll"].tolist() == pytest.approx([1.5 * LN2, 3 * LN2])


def test_onset_by_hand():
    """First token: the set has 1/2 and 1/8 of its probability, ln 2 and 3 ln 2. After it: (ln 2 + 3 ln 2) / 2 and ln 2.

    3 ln 2 and 4 ln 2 in all, 3.5 ln 2 on average. The written first token (-9) does not count: the set stands for it.
    """
    logps = torch.tensor([[-9.0, -LN2, -3 * LN2], [-9.0, -LN2, math.nan]])
    exists = torch.tensor([[True, True, True], [True, True, False]])
    losses = onset(torch.tensor([-LN2, -3 * LN2]), logps, exists)
    assert losses.loss_B.tolist() == pytest.approx([3 * LN2, 4 * LN2])
    assert reduce(losses, Totals(tokens=9, examples=2)).item() == pytest.approx(3.5 * LN2)
    assert losses.metrics["onset_nll"].tolist() == pytest.approx([LN2, 3 * LN2])


def test_onset_of_an_answer_of_one_token_is_its_set_alone():
    logps = torch.tensor([[-1.0]])
    assert onset(torch.tensor([-LN2]), logps, torch.tensor([[True]])).loss_B.tolist() == pytest.approx([LN2])


def test_dpo_by_hand():
    """Chosen -10 against the reference's -14, rejected -12 against -13, beta 0.1.

    Rewards 0.1 * 4 = 0.4 and 0.1 * 1 = 0.1; margin 0.3; -ln sigmoid(0.3) = ln(1 + e^-0.3) = 0.554355.
    """
    losses = dpo(pairs(tensor(-10.0), tensor(-12.0), tensor(-14.0), tensor(-13.0)), beta=0.1)
    assert losses.loss_B.item() == pytest.approx(0.554355, abs=1e-6)
    got = {name: value.item() for name, value in losses.metrics.items()}
    assert got == pytest.approx({"margin": 0.3, "accuracy": 1.0, "chosen_reward": 0.4, "rejected_reward": 0.1})


@given(st.floats(-200, 0), st.floats(-200, 0), st.floats(0.01, 2))
def test_dpo_is_ln_2_where_model_and_reference_agree(chosen, rejected, beta):
    losses = dpo(pairs(tensor(chosen), tensor(rejected), tensor(chosen), tensor(rejected)), beta)
    assert losses.loss_B.item() == pytest.approx(LN2, abs=1e-12)
    assert losses.metrics["margin"].item() == 0
    assert losses.metrics["accuracy"].item() == 0  # a tie is not a preference


LOGPS = st.lists(st.floats(-50, 0), min_size=4, max_size=4)


@given(LOGPS, st.floats(0.01, 1))
def test_swapping_chosen_and_rejected_flips_the_margin(values, beta):
    """-ln sigmoid(m) + ln sigmoid(-m) = -m: the two losses differ by the margin."""
    w, r, ref_w, ref_r = (tensor(v) for v in values)
    one, other = dpo(pairs(w, r, ref_w, ref_r), beta), dpo(pairs(r, w, ref_r, ref_w), beta)
    margin = one.metrics["margin"].item()
    assert other.metrics["margin"].item() == pytest.approx(-margin)
    assert one.loss_B.item() - other.loss_B.item() == pytest.approx(-margin)
    assert one.metrics["chosen_reward"].item() == other.metrics["rejected_reward"].item()


def test_dpo_far_from_the_reference_is_finite():
    """A margin of -1000 costs 1000 with slope -beta; one of +1000 costs nothing."""
    chosen = tensor(-1e4, 0.0, grad=True)
    zero = tensor(0.0, 0.0)
    losses = dpo(pairs(chosen, tensor(0.0, -1e4), zero, zero), beta=0.1)
    losses.loss_B.sum().backward()
    assert losses.loss_B.tolist() == pytest.approx([1000, 0])
    assert chosen.grad.tolist() == pytest.approx([-0.1, 0])


def test_retain_by_hand():
    """Divergences 0.2, 0.1, 0.3 | 0.4 nats: 0.2 + (0.1 + 0.3) / 2 = 0.4 and 0.4 alone; 0.4 an example."""
    losses = retain(tensor([0.2, 0.1, 0.3], [0.4, 9.0, 9.0]), mask([1, 1, 1], [1, 0, 0]))
    assert losses.loss_B.tolist() == pytest.approx([0.4, 0.4])
    assert reduce(losses, Totals(tokens=4, examples=2)).item() == pytest.approx(0.4)
    assert losses.metrics["kl"].tolist() == pytest.approx([0.4, 0.4])


def test_a_step_down_the_sft_loss_makes_the_answer_likelier():
    """The gradient is -1 / tokens at every answer token: p(y) - 1 summed, not its opposite."""
    logps = tensor([-1.0, -2.0, -5.0], grad=True)
    reduce(sft(logps, mask([1, 1, 0])), Totals(2, 1)).backward()
    assert logps.grad.tolist() == [[-0.5, -0.5, 0.0]]


def test_a_step_down_the_dpo_loss_prefers_the_chosen():
    """At equality the slope is -beta sigmoid(0) = -0.05 for chosen, +0.05 for rejected; the reference gets none of its own."""
    chosen, rejected = tensor(-3.0, grad=True), tensor(-3.0, grad=True)
    reduce(dpo(pairs(chosen, rejected, tensor(-3.0), tensor(-3.0)), beta=0.1), Totals(7, 1)).backward()
    assert chosen.grad.item() == pytest.approx(-0.05)
    assert rejected.grad.item() == pytest.approx(0.05)


def test_a_step_down_the_retain_loss_lessens_the_divergence():
    kl = tensor([0.3, 0.2], grad=True)
    reduce(retain(kl, mask([1, 1])), Totals(2, 1)).backward()
    assert kl.grad.tolist() == [[1.0, 1.0]]


@pytest.mark.parametrize("objective", [sft, retain])
@pytest.mark.parametrize("stray", [NAN, float("inf"), -float("inf")])
def test_what_is_outside_the_mask_leaks_neither_into_loss_nor_gradient(objective, stray):
    """The masked result is the result on the subset."""
    logps, alone = tensor([-1.0, stray, stray], grad=True), tensor([-1.0], grad=True)
    masked, subset = objective(logps, mask([1, 0, 0])), objective(alone, mask([1]))
    reduce(masked, Totals(1, 1)).backward()
    reduce(subset, Totals(1, 1)).backward()
    assert masked.loss_B.tolist() == subset.loss_B.tolist()
    assert logps.grad.tolist() == [[alone.grad.item(), 0.0, 0.0]]
    assert {k: v.tolist() for k, v in masked.metrics.items()} == {k: v.tolist() for k, v in subset.metrics.items()}


def test_train_08_masked_nan_leaks():
    """train-08-masked-nan-leaks. log_probs [-1, NaN] with mask [1, 0]: the loss is 1, its gradient [-1, 0].

    With the NaN inside the mask nothing may hide it: the loss is NaN (the loop then skips and counts the step).
    """
    logps = tensor([-1.0, NAN], grad=True)
    loss = reduce(sft(logps, mask([1, 0])), Totals(1, 1))
    loss.backward()
    assert loss.item() == 1.0
    assert logps.grad.tolist() == [[-1.0, 0.0]]
    assert math.isnan(reduce(sft(tensor([NAN, -2.0]), mask([1, 0])), Totals(1, 1)).item())


def test_train_01_gradaccum_denominator():
    """train-01-gradaccum-denominator. A constant next-token distribution 1/2, 1/4, 1/8, 1/8; answers 'c c' and 'a' x 8.

    (2 * 3 ln 2 + 8 * ln 2) / 10 = 14 ln 2 / 10 = 0.970406, in one batch, in two, and padded. A mean of means would be
    (3 ln 2 + ln 2) / 2 = 1.386294; an undivided sum of means 2.772589. The gradient of a logit is p(v) - n(v) / 10.
    """
    answers = [[2, 2], [0] * 8]
    totals = Totals(tokens=10, examples=2)

    def gradient_of(batches):
        logits_V = torch.tensor([0.5, 0.25, 0.125, 0.125], dtype=torch.float64).log().requires_grad_()
        step_loss = 0.0
        for batch in batches:
            width = max(map(len, batch))
            ids_BT = torch.tensor([a + [0] * (width - len(a)) for a in batch])
            mask_BT = torch.tensor([[t < len(a) for t in range(width)] for a in batch])
            loss = reduce(sft(logits_V.log_softmax(-1)[ids_BT], mask_BT), totals)
            loss.backward()
            step_loss += loss.item()
        return step_loss, logits_V.grad.tolist()

    for batches in ([answers], [[answers[0]], [answers[1]]], [answers[::-1]]):
        loss, gradient = gradient_of(batches)
        assert loss == pytest.approx(0.970406, abs=1e-6)
        assert gradient == pytest.approx([0.5 - 0.8, 0.25, 0.125 - 0.2, 0.125], abs=1e-12)


@st.composite
def splits(draw):
    """Answers of 1 to 5 tokens, and a way to part them into micro-batches."""
    lengths = draw(st.lists(st.integers(1, 5), min_size=1, max_size=6))
    order = draw(st.permutations(range(len(lengths))))
    cuts = sorted(draw(st.sets(st.integers(1, max(1, len(lengths) - 1)))))
    edges = [0, *[c for c in cuts if c < len(lengths)], len(lengths)]
    return lengths, [order[a:b] for a, b in pairwise(edges)], draw(st.integers(0, 999))


def token_losses(objective, values_BT, mask_BT, rows):
    width = int(mask_BT[rows].sum(-1).max())
    return objective(values_BT[rows, :width], mask_BT[rows, :width])


def pair_losses(_, values_BT, __, rows):
    v = values_BT[rows]
    return dpo(pairs(v[:, 0], v[:, 1], v[:, 2].detach(), v[:, 3].detach()))


@pytest.mark.parametrize(("objective", "losses_of"), [(sft, token_losses), (retain, token_losses), (dpo, pair_losses)])
@given(case=splits())
def test_any_split_into_micro_batches_gives_the_same_loss_and_gradient(objective, losses_of, case):
    lengths, batches, seed = case
    start = torch.randn(len(lengths), 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    mask_BT = torch.arange(5)[None] < torch.tensor(lengths)[:, None]
    totals = Totals(tokens=sum(lengths), examples=len(lengths))

    def run(batches):
        values_BT = start.clone().requires_grad_()
        parts = [reduce(losses_of(objective, values_BT, mask_BT, list(rows)), totals) for rows in batches]
        for part in parts:
            part.backward()
        return sum(p.item() for p in parts), values_BT.grad

    whole, parted = run([range(len(lengths))]), run(batches)
    assert parted[0] == pytest.approx(whole[0], abs=1e-12)
    assert torch.allclose(parted[1], whole[1], atol=1e-12, rtol=0)


@pytest.mark.parametrize("unit", ["token", "example"])
def test_a_step_without_anything_supervised_has_no_loss(unit):
    with pytest.raises(AccordError, match=f"supervised {unit}"):
        reduce(Losses(tensor(), unit), Totals(0, 0))


def test_each_unit_is_divided_by_its_own_total():
    """A sum of 12: over 6 tokens 2, over 3 examples 4."""
    totals = Totals(tokens=6, examples=3)
    assert reduce(Losses(tensor(5.0, 7.0), "token"), totals).item() == 2
    assert reduce(Losses(tensor(5.0, 7.0), "example"), totals).item() == 4


def test_masked_sum_by_hand_and_of_nothing():
    assert masked_sum(tensor([1.0, 2.0, 4.0], [1.0, NAN, 4.0]), mask([1, 0, 1], [1, 0, 0])).tolist() == [5.0, 1.0]
    assert masked_sum(torch.zeros(2, 0), torch.zeros(2, 0, dtype=torch.bool)).tolist() == [0, 0]


def test_metrics_carry_no_gradient():
    logps = tensor([-1.0, -2.0], grad=True)
    every = [
        *sft(logps, mask([1, 1])).metrics.values(),
        *onset(logps[:, 0], logps, mask([1, 1])).metrics.values(),
        *retain(logps, mask([1, 1])).metrics.values(),
        *dpo(pairs(logps[:, 0], logps[:, 1], logps[:, 0], logps[:, 1])).metrics.values(),
    ]
    assert not any(value.requires_grad for value in every)
