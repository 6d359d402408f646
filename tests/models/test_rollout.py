import gc
import random
import warnings

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from tiny_llama import tiny, tiny_causal_lm
from unshareable import gemma, gpt_neo, mistral, qwen_next

from accord.models import cohort, rollout
from accord.models.adapters import add_lora, merged
from accord.models.cohort import Cohort
from accord.models.decoding import step_of
from accord.models.packed import packed
from accord.models.projection import Projection
from accord.models.rollout import generate
from accord.models.sampling import Sampling, draw, uniforms
from accord.models.tree import common_prefix

MODEL = tiny_causal_lm()
NEVER = frozenset({279})  # an id that greedy decoding of these prompts does not choose
N_NEW = 14


def prompts_of(lengths, seed=0, prefix=()):
    rng = random.Random(seed)
    return [[*prefix, *(rng.randrange(278) for _ in range(n))] for n in lengths]


def keys(n):
    return [f"row-{i}" for i in range(n)]


def reference(model, prompt, end_ids, n_new=N_NEW):
    """What transformers' own `generate` says, one prompt at a time."""
    ids = torch.tensor([prompt])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        out = model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=n_new,
            eos_token_id=sorted(end_ids), pad_token_id=0,
        )  # fmt: skip
    return tuple(out[0, len(prompt) :].tolist())


def plain_logps(model, prompt, ids, temperature=1.0):
    with torch.no_grad():
        logits = model(torch.tensor([[*prompt, *ids]])).logits[0, len(prompt) - 1 : -1]
    return (logits / temperature).log_softmax(-1).gather(1, torch.tensor(ids)[:, None]).squeeze(1).tolist()


PROMPTS = {
    "one": prompts_of([9]),
    "of one token": [[5]],
    "nothing in common": prompts_of([1, 2, 3, 17, 17, 30]),
    "a common prefix": prompts_of([1, 2, 9, 9, 25, 3], prefix=(0, 40, 41, 42)),
    "one is the prefix of another": [[0, 40, 41], [0, 40, 41, 42, 43], [0, 40, 41, 42]],
    "one length": prompts_of([8] * 5),
    "the same twice": prompts_of([6]) * 2 + prompts_of([4]),
    "more than a prefill holds": prompts_of([150, 200, 180, 190, 170, 20, 200], seed=3, prefix=(0, 1)),
}


@pytest.fixture(scope="module")
def expected():
    """Per set of prompts: an end id that makes the rows stop at different steps, and transformers' answers."""
    found = {}
    for name, prompts in PROMPTS.items():
        free = [reference(MODEL, p, NEVER) for p in prompts]
        ends = NEVER | {answer[i % 11 + 1] for i, answer in enumerate(free) if i % 3 != 2}
        found[name] = ends, [reference(MODEL, p, ends) for p in prompts]
    return found


@pytest.mark.parametrize("batch_size", [1, 2, 5, 128])
@pytest.mark.parametrize("name", PROMPTS)
def test_greedy_equals_transformers_generate_token_by_token(expected, name, batch_size):
    ends, answers = expected[name]
    got = generate(MODEL, PROMPTS[name], keys(len(answers)), ends, Sampling(N_NEW), batch_size)
    assert [r.ids for r in got] == answers
    for prompt, r in zip(PROMPTS[name], got, strict=True):
        assert r.logps == pytest.approx(plain_logps(MODEL, prompt, r.ids), abs=1e-4)


def test_the_answers_of_that_test_do_stop_at_different_steps(expected):
    lengths = {len(a) for _, answers in expected.values() for a in answers}
    assert {1, N_NEW} & lengths
    assert len(lengths) >= 4


def test_a_small_prefill_slice_changes_nothing(expected, monkeypatch):
    monkeypatch.setattr("accord.models.rollout.PREFILL_TOKENS", 1)
    for name in ("a common prefix", "nothing in common"):
        ends, answers = expected[name]
        got = generate(MODEL, PROMPTS[name], keys(len(answers)), ends, Sampling(N_NEW))
        assert [r.ids for r in got] == answers


def test_the_rest_of_the_batch_changes_no_sample():
    prompts = prompts_of([3, 7, 7, 12, 20, 1], seed=5, prefix=(0,))
    names, sampling = keys(6), Sampling(N_NEW, temperature=1.0, seed=3)
    ends = frozenset(range(0, 280, 15))
    together = generate(MODEL, prompts, names, ends, sampling)
    for batch_size in (1, 2, 4):
        assert [r.ids for r in generate(MODEL, prompts, names, ends, sampling, batch_size)] == [r.ids for r in together]
    backwards = generate(MODEL, prompts[::-1], names[::-1], ends, sampling)
    assert [r.ids for r in backwards[::-1]] == [r.ids for r in together]
    (alone,) = generate(MODEL, prompts[2:3], names[2:3], ends, sampling)
    assert alone.ids == together[2].ids
    assert alone.logps == pytest.approx(together[2].logps, abs=1e-4)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
def test_logps_are_those_of_the_distribution_that_was_sampled(temperature):
    prompts = prompts_of([3, 9, 14])
    got = generate(MODEL, prompts, keys(3), frozenset({1}), Sampling(N_NEW, temperature))
    for prompt, r in zip(prompts, got, strict=True):
        assert r.logps == pytest.approx(plain_logps(MODEL, prompt, r.ids, temperature), abs=1e-4)


def test_a_truncated_answer_has_no_end_token_and_a_whole_one_ends_in_its_only_one():
    ends = frozenset(range(0, 280, 20))
    rollouts = generate(MODEL, prompts_of(range(1, 41)), keys(40), ends, Sampling(N_NEW, 1.0))
    assert {r.truncated for r in rollouts} == {True, False}
    for r in rollouts:
        assert len(r.ids) == len(r.logps)
        if r.truncated:
            assert len(r.ids) == N_NEW
            assert not ends & set(r.ids)
        else:
            assert [i in ends for i in r.ids] == [False] * (len(r.ids) - 1) + [True]


def test_an_end_token_at_the_last_step_is_no_truncation():
    (free,) = generate(MODEL, [[5, 6]], ["a"], NEVER, Sampling(1))
    (ended,) = generate(MODEL, [[5, 6]], ["a"], frozenset(free.ids), Sampling(1))
    assert (free.truncated, ended.truncated) == (True, False)
    assert free.ids == ended.ids


def test_the_seed_and_the_key_alone_make_the_luck():
    prompts = prompts_of([5]) * 8

    def ids(names, seed):
        return [r.ids for r in generate(MODEL, prompts, names, NEVER, Sampling(N_NEW, 1.0, seed))]

    first = ids(keys(8), 0)
    assert ids(keys(8), 0) == first
    assert all(a != b for a, b in zip(ids(keys(8), 1), first, strict=True))
    assert len(set(first)) == 8  # one prompt, eight keys
    assert len(set(ids(["same"] * 8, 0))) == 1
    torch.manual_seed(99)
    np.random.seed(99)
    assert ids(keys(8), 0) == first  # no ambient generator has a say


def test_greedy_ignores_the_seed():
    prompts = prompts_of([5, 6])
    a, b = (generate(MODEL, prompts, keys(2), NEVER, Sampling(N_NEW, 0.0, seed)) for seed in (0, 1))
    assert [r.ids for r in a] == [r.ids for r in b]


def test_the_sampled_distribution_is_the_models():
    """20,000 draws from six fixed probabilities, one of them 0; by chi-square, at a seed that is fixed."""
    probs = torch.tensor([0.4, 0.0, 0.3, 0.2, 0.08, 0.02])
    n = 20_000
    luck = uniforms(keys(n), Sampling(1, seed=1))[:, 0]
    tokens, logps = draw(probs.log().expand(n, 6), luck, Sampling(1, 1.0))
    counts = np.bincount(tokens.numpy(), minlength=6)
    assert counts[1] == 0
    real = probs.numpy() > 0
    assert chisquare(counts[real], n * probs.double().numpy()[real] / probs.double().sum().item()).pvalue > 0.01
    assert logps[:50].exp().tolist() == pytest.approx(probs[tokens[:50]].tolist(), abs=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_the_first_token_of_many_rollouts_follows_the_softmax(temperature):
    model, n = tiny_causal_lm(vocab=8, scale=0.3), 4000
    got = generate(model, [[3, 4, 5]] * n, keys(n), frozenset({0}), Sampling(1, temperature, seed=2), batch_size=1000)
    with torch.no_grad():
        probs = (model(torch.tensor([[3, 4, 5]])).logits[0, -1].double() / temperature).softmax(-1).numpy()
    assert chisquare(np.bincount([r.ids[0] for r in got], minlength=8), n * probs / probs.sum()).pvalue > 0.01


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-53])
def test_the_outermost_uniform_numbers_draw_a_token_that_exists(uniform):
    """All the mass on the last of 50,000 ids but a little on the first: partial sums must not run past the end."""
    logits = torch.full((1, 50_000), -1e9)
    logits[0, 0] = logits[0, -1] = 0.0
    token, _ = draw(logits, torch.tensor([uniform], dtype=torch.float64), Sampling(1, 1.0))
    assert token.item() == (0 if uniform == 0 else 49_999)


def test_an_adapters_rollout_is_that_of_the_merged_model_and_leaves_the_model_as_it_was():
    torch.manual_seed(0)
    model = add_lora(tiny(), 4, 1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.2)
    model.eval()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    prompts = prompts_of([3, 8, 8])
    got = [r.ids for r in generate(model, prompts, keys(3), NEVER, Sampling(N_NEW))]
    base = [r.ids for r in generate(MODEL, prompts, keys(3), NEVER, Sampling(N_NEW))]
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    assert not any("forward" in vars(m) for m in model.modules())
    assert got == [reference(model, p, NEVER) for p in prompts]
    assert got != base


def test_progress_counts_every_row_and_token():
    seen = []
    got = generate(
        MODEL, prompts_of([3, 4, 5]), keys(3), NEVER, Sampling(4), batch_size=2, on_batch=lambda *n: seen.append(n)
    )
    assert [rows for rows, _ in seen] == [2, 1]
    assert sum(tokens for _, tokens in seen) == sum(len(r.ids) for r in got)


def test_equal_prompts_are_computed_once(monkeypatch):
    """Eight answers to each of two prompts: the prefill sees the prompts' own tokens once, the common beginning once."""
    seen = []
    forward = rollout._Engine._forward

    def counting(self, ids, *more):
        seen.append(ids.numel())
        return forward(self, ids, *more)

    monkeypatch.setattr(rollout._Engine, "_forward", counting)
    prompts = prompts_of([20, 30], prefix=(0, 1, 2))
    n_prefix = common_prefix(prompts)
    got = generate(MODEL, [p for p in prompts for _ in range(8)], keys(16), NEVER, Sampling(3, 1.0))
    # Two prompts, padded to the longer one; a step of rows is no such pass.
    assert sum(seen) == n_prefix + 2 * (33 - n_prefix)
    assert len({r.ids for r in got}) > 2


@pytest.mark.parametrize("batch_size", [3, 8, 128])
@pytest.mark.parametrize("bucket", [2, 128])
def test_groups_of_any_size_give_what_each_row_alone_gives(monkeypatch, batch_size, bucket):
    """Rows end at different steps, groups thin out and others take their place, answers outgrow their buckets."""
    monkeypatch.setattr(cohort, "BUCKET", bucket)
    own = prompts_of([9, 4, 30, 11, 25], seed=8, prefix=(0, 40))
    prompts = [own[i] for i in (0, 1, 1, 2, 0, 3, 0, 1, 4, 0, 2, 0, 1, 1, 3)]
    ends, sampling = frozenset(range(0, 280, 12)), Sampling(N_NEW, temperature=1.0, seed=4)
    got = generate(MODEL, prompts, keys(15), ends, sampling, batch_size)
    assert len({len(r.ids) for r in got}) > 4
    for i, prompt in enumerate(prompts):
        (alone,) = generate(MODEL, [prompt], [f"row-{i}"], ends, sampling)
        assert got[i].ids == alone.ids
        assert got[i].logps == pytest.approx(plain_logps(MODEL, prompt, alone.ids), abs=1e-4)


def test_a_stop_string_ends_an_answer_without_an_end_token():
    """The answer stops with the token that completes the string, and is not truncated."""
    prompts = prompts_of([5, 9])
    free = generate(MODEL, prompts, keys(2), NEVER, Sampling(N_NEW))
    spell = lambda ids: "".join(f"<{i}>" for i in ids)  # noqa: E731
    stop = spell(free[0].ids[1:4])
    until = next(n for n in range(N_NEW) if stop in spell(free[0].ids[:n]))
    got = generate(MODEL, prompts, keys(2), NEVER, Sampling(N_NEW, stop=(stop, "never")), decode=spell)
    assert got[0].ids == free[0].ids[:until]
    assert until < N_NEW
    assert not got[0].truncated
    assert not set(got[0].ids) & NEVER
    assert stop not in spell(free[1].ids)
    # The other answer is the same; its last steps were computed in other company, which rounds.
    assert got[1].ids == free[1].ids
    assert got[1].logps == pytest.approx(free[1].logps, abs=1e-5)


@pytest.mark.parametrize("make", [mistral, gemma, qwen_next, gpt_neo])
def test_a_model_that_cannot_share_is_run_row_by_row(make):
    model = make()
    prompts = [[p % 60 for p in prompt] for prompt in prompts_of([3, 12, 20])]
    got = generate(model, prompts, keys(3), frozenset({63}), Sampling(6))
    assert [r.ids for r in got] == [reference(model, p, {63}, 6) for p in prompts]


def test_attention_with_sinks_is_run_row_by_row(monkeypatch):
    """Nothing of the first tries is left in the answers."""
    monkeypatch.setattr(rollout._Engine, "attend", lambda *_: (_ for _ in ()).throw(rollout._SpecialAttentionError()))
    prompts = prompts_of([3, 12])
    got = generate(MODEL, prompts, keys(2), NEVER, Sampling(6))
    assert [r.ids for r in got] == [reference(MODEL, p, NEVER, 6) for p in prompts]


@pytest.mark.parametrize("group", [1, 3])
def test_the_step_that_is_written_out_is_the_models(monkeypatch, group):
    prompts = [p for p in prompts_of([9, 4, 30], seed=8, prefix=(0, 40)) for _ in range(group)]
    sampling = Sampling(N_NEW, temperature=1.0, seed=4)
    own = generate(MODEL, prompts, keys(3 * group), NEVER, sampling)
    monkeypatch.setattr(rollout, "step_of", lambda _: None)
    theirs = generate(MODEL, prompts, keys(3 * group), NEVER, sampling)
    assert [r.ids for r in own] == [r.ids for r in theirs]
    for a, b in zip(own, theirs, strict=True):
        assert a.logps == pytest.approx(b.logps, abs=1e-5)


def test_what_has_no_step_written_out():
    """Nothing that is not packed, no adapter that acts, no model that somebody hooks into, no other kind of model."""
    model = tiny_causal_lm()
    assert step_of(model) is None
    with torch.inference_mode(), packed(model):
        assert step_of(model) is not None
        hook = model.model.layers[1].mlp.register_forward_hook(lambda *_: None)
        assert step_of(model) is None
        hook.remove()
    adapted = add_lora(tiny(), 4, 0)
    with torch.inference_mode(), packed(adapted):
        assert step_of(adapted) is None
        with merged(adapted):
            assert step_of(adapted) is not None
    other = mistral()
    with torch.inference_mode(), packed(other):
        assert step_of(other) is None


def test_what_was_packed_and_kept_is_let_go_of_without_the_garbage_collector():
    gc.collect()
    gc.disable()
    try:
        before = sum(type(x) in (Projection, Cohort) for x in gc.get_objects())
        generate(MODEL, prompts_of([9, 4]), keys(2), NEVER, Sampling(4))
        assert sum(type(x) in (Projection, Cohort) for x in gc.get_objects()) == before
    finally:
        gc.enable()


def test_no_prompt_no_answer():
    assert generate(MODEL, [], [], NEVER, Sampling(4)) == []
