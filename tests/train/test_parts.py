"""Parts over one forward: preferences under any objective, marked answers, scores, and a retain term beside any of them."""

import math
from functools import partial

import pytest
import torch
import training_demo as demo
from tiny_llama import tiny
from torch import nn

from accord.models.adapters import add_lora, scaled
from accord.models.reward import score_answers, score_head, with_score_head
from accord.models.tree import Tree, head_weight
from accord.objectives.bradley_terry import Ranked, bradley_terry
from accord.objectives.kto import kl_baseline, kto
from accord.objectives.pairs import Pairs
from accord.objectives.reduction import Totals, reduce
from accord.resolve import names_in, resolve
from accord.train.imitation import Matched, refusal_forks
from accord.train.mixture import Mixture
from accord.train.offline import TrainSettings, fit
from accord.train.preferences import Marked, Preferred, answer_logps, mismatched_trees, preference_task
from accord.train.rewards import Ranking, reward_task
from accord.train.states import FrozenStates, freeze_states
from accord.types import Silent

LN2 = math.log(2)
PLAIN = FrozenStates(0, {}, {})
PAIR_OBJECTIVES = [
    n for n in names_in("accord.objectives") if n in ("dpo", "ipo", "hinge", "simpo", "orpo", "apo_zero")
]


def losses_of(task, model, batches):
    """Loss and gradients of one step in these micro-batches."""
    rows = [i for batch in batches for i in batch]
    totals, shared = task.totals(rows), task.before_step(model, rows)
    loss = 0.0
    model.zero_grad()
    for batch in batches:
        for term in task.terms(model, batch, shared):
            part = term.coefficient * reduce(term.losses, totals[term.group])
            part.backward(retain_graph=True)
            loss += part.item()
    return loss, [p.grad.clone() for p in demo.trained(model)]


@pytest.mark.parametrize("name", PAIR_OBJECTIVES)
def test_every_objective_on_pairs_sees_each_answers_sum_and_length(name):
    model, rows = demo.lora(0, std=0.1), demo.trees(5, 2)
    head = head_weight(model)
    with scaled(model, 0.0):
        ref_R2 = answer_logps(model, rows, PLAIN, head)
    objective = resolve("accord.objectives", name)
    task = preference_task(rows, PLAIN, head, ref_R2, objective)
    (term,) = task.terms(model, range(5), task.before_step(model, range(5)))
    logps_R2 = answer_logps(model, rows, PLAIN, head)
    n_R2 = torch.tensor([[len(a) for a in t.answers] for t in rows])
    right = objective(Pairs(*logps_R2.T, *n_R2.T, *ref_R2.T)).loss_B
    torch.testing.assert_close(term.losses.loss_B.detach(), right, atol=1e-4, rtol=1e-4)


def test_answer_logps_are_those_of_each_answer_alone():
    model, rows = demo.lora(0, std=0.1), demo.trees(4, 3)
    head = head_weight(model)
    together = answer_logps(model, rows, PLAIN, head)
    alone = [[answer_logps(model, [Tree(t.prompt, (a,))], PLAIN, head).item() for a in t.answers] for t in rows]
    torch.testing.assert_close(together, torch.tensor(alone), atol=1e-4, rtol=0)


def test_a_pairs_preference_reaches_the_objective():
    """q = 1/2 at equality with the reference: no gradient at all."""
    model, rows = demo.lora(0, std=0.1), demo.trees(3, 2)
    head = head_weight(model)
    ref = answer_logps(model, rows, PLAIN, head)
    soft = resolve("accord.objectives", "soft_dpo")
    task = preference_task(rows, PLAIN, head, ref, soft, torch.full((3,), 0.5))
    loss, grads = losses_of(task, model, [[0, 1, 2]])
    assert loss == pytest.approx(LN2, abs=1e-5)
    assert max(g.abs().max().item() for g in grads) < 1e-5


def test_a_step_says_how_long_answers_are_and_how_far_the_model_moved_on_them():
    """The reference is 1 below the model for chosen answers and 2 above for rejected ones: 1 / length and -2 / length."""
    model, rows = demo.lora(0, std=0.1), demo.trees(5, 2)
    head = head_weight(model)
    ref_R2 = answer_logps(model, rows, PLAIN, head) + torch.tensor([-1.0, 2.0])
    task = preference_task(rows, PLAIN, head, ref_R2)
    metrics = task.terms(model, range(5), task.before_step(model, range(5)))[0].losses.metrics
    for side, (name, ratio) in enumerate((("chosen", 1.0), ("rejected", -2.0))):
        lengths = [len(t.answers[side]) for t in rows]
        assert metrics[f"{name}_length"].tolist() == lengths
        assert metrics[f"{name}_log_ratio_per_token"].tolist() == pytest.approx([ratio / n for n in lengths], abs=1e-4)
    simpo = preference_task(rows, PLAIN, head, None, resolve("accord.objectives", "simpo"))
    (term,) = simpo.terms(model, range(5), simpo.before_step(model, range(5)))
    assert term.losses.metrics["rejected_length"].shape == (5,)
    assert "chosen_log_ratio_per_token" not in term.losses.metrics


def marked_task(model, rows):
    head = head_weight(model)
    others = mismatched_trees(rows, 512)
    with scaled(model, 0.0):
        ref_R, other_ref_R = (answer_logps(model, trees, PLAIN, head)[:, 0] for trees in (rows, others))
    desirable = torch.tensor([i % 3 != 0 for i in range(len(rows))])
    part = Marked(head, desirable, ref_R, others, other_ref_R)
    return Mixture(rows, [0] * len(rows), (part,), PLAIN), ref_R, desirable, others, other_ref_R


def test_kto_compares_with_the_level_of_the_whole_step_however_it_is_split():
    model, rows = demo.lora(0, std=0.3), demo.trees(7, 1)
    head = head_weight(model)
    task, ref_R, desirable, others, other_ref_R = marked_task(model, rows)
    level = kl_baseline(answer_logps(model, others, PLAIN, head)[:, 0], other_ref_R)
    assert level.item() > 0
    right = kto(answer_logps(model, rows, PLAIN, head)[:, 0], ref_R, desirable, level).loss_B.mean().item()
    (term,) = task.terms(model, range(7), task.before_step(model, range(7)))
    assert term.losses.metrics["baseline"].tolist() == pytest.approx([level.item()] * 7, abs=1e-5)
    assert term.losses.metrics["undesirable_length"].tolist() == [len(rows[i].answers[0]) for i in (0, 3, 6)]
    assert term.losses.metrics["desirable_log_ratio_per_token"].shape == (4,)
    whole, grads = losses_of(task, model, [range(7)])
    parted, other_grads = losses_of(task, model, [[0, 3], [6, 1, 2], [5, 4]])
    assert whole == pytest.approx(right, abs=1e-5)
    assert parted == pytest.approx(whole, abs=1e-5)
    for a, b in zip(grads, other_grads, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-4)


def test_no_row_is_compared_with_its_own_answer():
    rows = demo.trees(5, 1)
    others = mismatched_trees(rows, 512)
    assert [t.prompt for t in others] == [t.prompt for t in rows]
    assert all(a.answers != b.answers for a, b in zip(rows, others, strict=True))


def test_another_prompts_answer_is_cut_to_what_the_window_leaves():
    """Rows of 19 + 1 and 1 + 8 tokens in a window of 20: the long prompt has room for one token of the other's answer."""
    long, short = Tree(tuple(range(19)), ((30,),)), Tree((1,), (tuple(range(40, 48)),))
    assert mismatched_trees([long, short], 20) == [Tree(long.prompt, ((40,),)), Tree(short.prompt, ((30,),))]


def test_kto_learns_what_is_marked(tmp_path):
    model, rows = demo.lora(0, std=0.0), demo.trees(12, 1)
    head = head_weight(model)
    task, _, desirable, *_ = marked_task(model, rows)
    before = answer_logps(model, rows, PLAIN, head)[:, 0]
    fit(model, task, TrainSettings(epochs=15, rows_per_step=12, learning_rate=2e-2), tmp_path, Silent(), "kto")
    change = answer_logps(model, rows, PLAIN, head)[:, 0] - before
    assert change[desirable].mean() > 0.5
    assert change[~desirable].mean() < -0.5


def reward_problem(first_layer=0, std=0.2):
    """A reward model with fresh adapters, and rows of 2 and of 3 answers of which the first is the best."""
    loaded = with_score_head(tiny())
    torch.manual_seed(0)
    model = add_lora(loaded, 4, first_layer)
    with torch.no_grad():
        score_head(model).weight.normal_(std=std)
    rows = [*demo.trees(4, 2), *demo.trees(3, 3, seed=5)]
    rankings = [Ranking(((0, 1),)) if len(t.answers) == 2 else Ranking(((0, 1), (0, 2), (1, 2))) for t in rows]
    return model.eval(), rows, rankings


def test_rows_of_any_number_of_answers_are_one_example_each_however_they_are_split():
    model, rows, rankings = reward_problem()
    task = reward_task(rows, rankings, PLAIN, score_head(model))
    assert task.totals(range(7)) == {"reward": Totals(0, 7)}
    right = 0.0
    for row, ranking in zip(rows, rankings, strict=True):
        scores_K = score_answers(model, [row])[0]
        better, worse = (scores_K[[p[side] for p in ranking.pairs]] for side in (0, 1))
        right += bradley_terry(Ranked(better, worse, torch.zeros(len(better), dtype=torch.long), 1)).loss_B.item() / 7
    whole, grads = losses_of(task, model, [range(7)])
    parted, other_grads = losses_of(task, model, [[6, 0, 4], [1], [5, 2, 3]])
    assert whole == pytest.approx(right, abs=1e-5)
    assert parted == pytest.approx(whole, abs=1e-6)
    assert max(g.abs().max().item() for g in grads) > 1e-3
    for a, b in zip(grads, other_grads, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-4)


def test_k_answers_cost_and_teach_the_same_as_their_pairs():
    """Three answers of one prompt, all three comparisons, against three rows of two: the same mean, the same gradient."""
    model, rows, _ = reward_problem()
    row = rows[-1]
    pairs = ((0, 1), (0, 2), (1, 2))
    head = score_head(model)
    one = losses_of(reward_task([row], [Ranking(pairs)], PLAIN, head), model, [[0]])
    apart = [Tree(row.prompt, (row.answers[i], row.answers[j])) for i, j in pairs]
    three = losses_of(reward_task(apart, [Ranking(((0, 1),))] * 3, PLAIN, head), model, [range(3)])
    assert one[0] == pytest.approx(three[0], abs=1e-5)
    for a, b in zip(one[1], three[1], strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("first_layer", [0, 2])
def test_a_reward_model_learns_its_ranking(tmp_path, first_layer):
    model, rows, rankings = reward_problem(first_layer, std=0.0)
    states = freeze_states(model, rows, first_layer, [False] * 7, tmp_path, Silent())
    task = reward_task(rows, rankings, states, score_head(model))
    settings = TrainSettings(epochs=25, rows_per_step=7, learning_rate=2e-2)
    result = fit(model, task, settings, tmp_path, Silent(), "reward")
    assert result.steps[0].loss == pytest.approx(LN2, abs=1e-5)
    assert result.steps[-1].metrics["reward/accuracy"] == 1.0


def test_a_margin_asks_for_more_and_a_cost_model_for_a_border():
    model, rows, rankings = reward_problem()
    head = score_head(model)

    def loss(**more):
        asked = [Ranking(r.pairs, **{k: v(r) for k, v in more.items()}) for r in rankings]
        return losses_of(reward_task(rows, asked, PLAIN, head), model, [range(7)])[0]

    plain = loss()
    assert loss(margins=lambda r: (0.0,) * len(r.pairs)) == pytest.approx(plain)
    assert loss(margins=lambda r: (1.0,) * len(r.pairs)) > plain
    assert loss(safe=lambda r: (False, *(True,) * (len(r.pairs) // 2 + 1))) > plain + LN2


def test_a_retain_term_stands_beside_any_part(tmp_path):
    """DPO on three pairs and a retain term on two benign rows: each by its own total, and without drift no divergence."""
    model, pairs = demo.lora(0, std=0.0), demo.trees(3, 2)
    benign = demo.trees(2, 1, seed=9)
    rows = [pairs[0], benign[0], pairs[1], pairs[2], benign[1]]
    kinds = [0, 1, 0, 0, 1]
    head = head_weight(model)
    ref_R2 = torch.zeros(5, 2)
    ref_R2[[0, 2, 3]] = answer_logps(model, pairs, PLAIN, head)
    states = freeze_states(model, rows, 0, [k == 1 for k in kinds], tmp_path, Silent())
    parts = (Preferred(head, ref_logps=ref_R2), Matched(rows, states, head, head, coefficient=5.0))
    task = Mixture(rows, kinds, parts, states)
    assert task.totals(range(5)) == {"dpo": Totals(0, 3), "retain": Totals(sum(len(t.answers[0]) for t in benign), 2)}
    dpo_term, retain_term = task.terms(model, range(5), task.before_step(model, range(5)))
    assert dpo_term.losses.loss_B.tolist() == pytest.approx([LN2] * 3, abs=1e-5)
    assert retain_term.losses.loss_B.tolist() == pytest.approx([0.0] * 2, abs=1e-5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3)
    whole, grads = losses_of(task, model, [range(5)])
    parted, other_grads = losses_of(task, model, [[0, 1], [4, 3], [2]])
    assert parted == pytest.approx(whole, rel=1e-6)
    for a, b in zip(grads, other_grads, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-3)


def test_options_of_an_objective_are_filled_in():
    model, rows = demo.lora(0, std=0.2), demo.trees(3, 2)
    head = head_weight(model)
    with scaled(model, 0.0):
        ref_R2 = answer_logps(model, rows, PLAIN, head)
    dpo = resolve("accord.objectives", "dpo")
    found = [
        losses_of(preference_task(rows, PLAIN, head, ref_R2, partial(dpo, beta=beta)), model, [range(3)])[0]
        for beta in (0.1, 1.0)
    ]
    assert abs(found[0] - found[1]) > 0.01


def test_the_head_of_a_reward_model_is_trained_and_a_language_models_is_not():
    model, *_ = reward_problem()
    assert score_head(model).weight.requires_grad
    assert isinstance(score_head(model), nn.Linear)
    assert sum("score" in name for name, p in model.named_parameters() if p.requires_grad) == 1


def test_tokens_that_lead_into_a_refusal():
    """Benign answers begin 5 6 7 and 5 8, refusals 5 6 9, 5 4 and 3 3: after nothing it is 3, after 5 it is 4, after 5 6 it is 9.

    The row whose paths are 5 6 7 and 5 6 9 has them at its supervised tokens 0 (nothing before), 1 (5), 2 (5 6), and again at 3, 4
    and 5; what follows 5 6 9 is inside a refusal, and nothing is taken out there. 5 6, a benign beginning, leads nowhere.
    """
    rows = [
        Tree((0,), ((5, 6, 7), (5, 6, 9))),
        Tree((0,), ((5, 8), (5, 4))),
        Tree((0,), ((5, 6, 7), (3, 3))),
        Tree((0,), ((5, 8), (5, 6))),
        Tree((0,), ((5, 6, 9),)),  # learned: what it begins with is no benign beginning
        Tree((0,), ((9, 8),)),
    ]
    forks = refusal_forks(rows, [False, False, False, False, True, False])
    assert forks[0] == {0: (3,), 1: (4,), 2: (9,), 3: (3,), 4: (4,), 5: (9,)}
    assert forks[1] == {0: (3,), 1: (4,), 2: (3,), 3: (4,)}
    assert forks[2] == {0: (3,), 1: (4,), 2: (9,), 3: (3,)}
    assert forks[5] == {0: (3,)}
    assert 4 not in forks


def test_what_one_answer_in_two_thousand_begins_with_is_no_way_that_answers_go():
    """5 4 begins a refusal, and one benign answer of 2,000: half a thousandth. Two of them are enough to leave it alone."""
    rows = [Tree((0,), ((5, 8), (5, 4))) for _ in range(2000)]
    odd = [Tree((0,), ((5, 4), (5, 4)))] * 2
    assert refusal_forks([*rows[1:], odd[0]], [False] * 2000)[0] == {1: (4,), 3: (4,)}
    assert refusal_forks([*rows[2:], *odd], [False] * 2000) == {}


def test_a_rare_beginning_leads_nowhere():
    """One refusal of 150 begins 3: below a hundredth. One of 100 is enough."""
    rows = [Tree((0,), ((5, 8), (5, 4))) for _ in range(149)]
    rare = Tree((0,), ((5, 8), (3, 3)))
    assert refusal_forks([*rows, rare], [False] * 150)[0] == {1: (4,), 3: (4,)}
    assert refusal_forks([*rows[:99], rare], [False] * 100)[0] == {0: (3,), 1: (4,), 2: (3,), 3: (4,)}


def test_a_benign_row_is_kept_with_the_base_model_but_for_its_way_into_a_refusal(tmp_path):
    """At the fork the refusal's token is to be avoided, everywhere else nothing is to change: its slope is the token's share."""
    model, rows = demo.lora(0), [Tree((0, 9, 4), ((5, 6, 7, 1), (5, 8, 2))), Tree((0, 3), ((5, 7, 7), (5, 8, 8)))]
    states = freeze_states(model, rows, 0, [True, True], tmp_path, Silent())
    head = head_weight(model)
    part = Matched(rows, states, head, head, forks={1: {3 + 1: (8,)}})
    task = Mixture(rows, [0, 0], (part,), states)
    (term,) = task.terms(model, [0, 1], task.before_step(model, [0, 1]))
    # Row 1's second answer alone, and of it the second position: mean over the two after the first.
    assert term.losses.loss_B[:3].tolist() == pytest.approx([0.0, 0.0, 0.0], abs=1e-5)
    batch, hidden = states.last_states(model, rows, [1])
    p = torch.softmax(batch.predicting(hidden)[4] @ head.T, -1)[8]
    assert term.losses.loss_B[3].item() == pytest.approx(-math.log(1 - p.item()) / 2, abs=1e-5)
