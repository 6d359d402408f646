"""`accord train ppo|grpo|rloo|…`: reinforcement learning on prompts, one run folder, one stage, one model."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

from torch import nn

from accord.data.examples import read_examples
from accord.data.jsonl import refuse
from accord.data.messages import show
from accord.errors import DataError, SettingsError
from accord.models.adapters import scaled
from accord.models.chat import ChatFormat
from accord.models.held import held
from accord.models.load import load_model, published_name, window
from accord.models.opening import server_at
from accord.models.packed import packed
from accord.models.sampling import Sampling
from accord.models.served import Servers
from accord.models.sharded import sharding_asked
from accord.models.tree import Tree, decoder_of
from accord.objectives.lagrangian import Multiplier
from accord.policy import load_policy
from accord.recipes.reporting import machine_facts
from accord.recipes.saving import save_finished, save_weights
from accord.recipes.settings import TrainingSettings, asked_of
from accord.recipes.training import (
    OBJECTIVES,
    Trainee,
    check_window,
    make_trainee,
    pair_objective,
    reference_head,
    start_stage,
)
from accord.report.reinforcement import Reinforcement, Watched, watched
from accord.report.reinforcement_page import write_reinforcement
from accord.resolve import resolve, with_options
from accord.runs.atomic import file_digest
from accord.runs.folder import Stage
from accord.scorers.as_reward import combined, cost_named, reward_named
from accord.starter import policy_path
from accord.train.collect import Asked, Judges
from accord.train.learner import Learner, Method, OnlineSettings
from accord.train.methods import Imitate, Prefer, Reinforce
from accord.train.online import Kept, OnlineResult, fit_online
from accord.train.parallel import is_main
from accord.train.sampled import Penalties
from accord.train.samples import ROLLOUTS, read_samples, step_file
from accord.train.served import Served
from accord.train.states import forget_states, freeze_states
from accord.train.weigh import Estimates
from accord.types import Kind, Progress, Prompt

KLWays = Literal["k1", "k2", "k3", "full"]
VALUE_HEAD = "value_head"
# Before an objective on pairs: the pairs are sampled.
ONLINE = "online-"
# What a nat costs where nothing is said.
KL = 0.05
# At the run's ends rewards are compared over so many steps: one step's prompts are too few to tell.
ENDS = 5
ADAPTERS = "served"
# Tokens of the text by whose log-probabilities an adapter on a server is known again.
CANARY = 128


@dataclass(frozen=True, slots=True)
class OnlineAsked:
    """What a run was asked for beside what `TrainingSettings` say; everything that changes its result.

    `kl`, `kl_way` and `decay` (GAE's) None are the method's own. `cut_penalty` is taken from the reward of an answer that the limit
    cut. `rollouts` are vLLM servers that sample, each `openai:NAME@URL` of the base that is trained; the model itself where there
    is none. They may be `ahead` of training by so many steps (0 or 1).
    """

    rewards: tuple[str, ...]
    cost: str = ""
    cost_limit: float = 0.0
    watcher: str = ""
    steps: int = 50
    prompts_per_step: int = 16
    group: int = 8
    passes: int = 1
    max_new_tokens: int = 64
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    stop: tuple[str, ...] = ()
    kl: float | None = None
    kl_way: KLWays | None = None
    entropy: float = 0.0
    kl_budget: float = 0.0
    decay: float | None = None
    cut_penalty: float = 0.0
    ptx: float = 0.0
    policy: str = ""
    rollouts: tuple[str, ...] = ()
    ahead: int = 0
    options: Mapping[str, float] = field(default_factory=dict)


# What runs of before had no option for.
_LATER = {"top_k": 0, "min_p": 0.0, "stop": (), "decay": None, "cut_penalty": 0.0}


def run_online(
    name: str,
    data: Path,
    out: Path,
    asked: OnlineAsked,
    settings: TrainingSettings,
    progress: Progress,
    ptx: Path | None = None,
) -> tuple[dict[str, Any], tuple[Watched, ...], Reinforcement]:
    """Reinforce a model on the prompts of a file, write its page, and return facts, what was watched, and the page's evidence.

    The reference is the model that training starts from.

    Raises:
        DataError: rows that cannot be used, or prompts that leave no room for an answer in the model's window.
        SettingsError: an option cannot be.
    """
    method = method_named(name, asked.max_new_tokens, asked.options)
    _refuse_unheeded(name, method, asked)
    full = settings.method == "full"
    if sharding_asked() and (method.needs_values or full or not asked.rollouts):
        raise SettingsError(
            f"`accord train {name}` needs weights that are whole in each process: launch it with DDP, or have vLLM servers sample "
            "(--rollouts) for adapters and a method without a value model"
        )
    if full and asked.rollouts:
        raise SettingsError(
            "--rollouts: servers are sent adapters, and --method full has none: leave out one of the two"
        )
    if asked.ahead and not asked.rollouts:
        raise SettingsError(
            "--ahead 1: the model that learns cannot sample meanwhile; name vLLM servers with --rollouts"
        )
    judges = _judges(asked)
    loaded = load_model(settings.model, settings.precision)
    trainee = make_trainee(loaded, settings)
    prompts = read_asked(data, trainee.chat, window(loaded.model) - asked.max_new_tokens)
    said = {
        **settings.asked(),
        "verb": f"train {name}",
        "data": file_digest(data),
        "ptx rows": file_digest(ptx) if ptx else "",
        **asked_of(asked, _LATER),
        "kl": KL if asked.kl is None else asked.kl,
        "kl_way": asked.kl_way or "k3",
        "rewards": list(asked.rewards),
        "rollouts": list(asked.rollouts),
    }
    stage = start_stage(out, said, machine_facts(trainee), name, loaded)
    learner = learner_of(trainee, by_value=method.needs_values)
    kept = None
    if ptx is not None:
        kept = kept_beside(trainee, ptx, asked.ptx, settings.rows_per_step, stage, progress)
    online = OnlineSettings(
        steps=asked.steps,
        prompts_per_step=asked.prompts_per_step,
        group=asked.group,
        prompts_per_update=settings.rows_per_step,
        passes=asked.passes,
        sampling=Sampling(
            asked.max_new_tokens, asked.temperature, settings.seed, asked.top_p, asked.top_k, asked.min_p, asked.stop
        ),
        penalties=_penalties(method, asked),
        estimates=Estimates() if asked.decay is None else Estimates(decay=asked.decay),
        kl_budget=asked.kl_budget,
        cut_penalty=asked.cut_penalty,
        ahead=asked.ahead,
        # Where nothing is to be learned nothing may move: no decay.
        loop=replace(settings.dials(), weight_decay=0.0),
    )
    served = None
    if asked.rollouts:
        served = served_by(asked.rollouts, trainee, learner, prompts, stage.folder / ADAPTERS, settings.model)
    result = fit_online(learner, method, judges, prompts, online, stage.folder, progress, kept, served=served)
    if is_main() and not stage.done:
        forget_states(stage.folder)
        stage.finish({"seconds": result.seconds, "ended": result.ended})
    if learner.value_head is not None:
        delattr(trainee.model, VALUE_HEAD)
    what = f"{name} on {len(prompts)} prompts, rewarded by {judges.reward.name},"
    save_finished(trainee, stage, out / "model", settings.model, what)
    evidence = evidence_of(name, stage.folder, settings.model, prompts, judges, asked.steps, result)
    facts = {
        "prompts": len(prompts),
        "reward": judges.reward.name,
        "steps": len(result.steps),
        "ended early": result.ended or "no",
        "skipped optimiser steps": result.skipped,
        "seconds": round(result.seconds, 1),
        "rollouts": str(stage.folder / ROLLOUTS),
        "report": str(out / "report.html"),
        "model": str(out / "model"),
    }
    if is_main():
        write_reinforcement(evidence, out / "report.html")
    return facts, watched(evidence), evidence


def _refuse_unheeded(name: str, method: Method, asked: OnlineAsked) -> None:
    """Refuse what a method would not heed.

    Raises:
        SettingsError: naming the options, and what to do.
    """
    if asked.kl_way not in (None, *get_args(KLWays)):
        raise SettingsError(f"--kl-way {asked.kl_way}: expected one of {', '.join(get_args(KLWays))}")
    if not isinstance(method, Reinforce):
        given = {
            "kl": asked.kl,
            "kl-way": asked.kl_way,
            "entropy": asked.entropy,
            "kl-budget": asked.kl_budget,
            "decay": asked.decay,
        }
        if unheeded := [f"--{option}" for option, value in given.items() if value]:
            raise SettingsError(f"{name} measures no divergence from the reference: leave out {', '.join(unheeded)}")
        return
    narrowed = {"top-p": asked.top_p < 1, "top-k": asked.top_k > 0, "min-p": asked.min_p > 0}
    if unlike := [f"--{option}" for option, is_given in narrowed.items() if is_given]:
        raise SettingsError(
            f"{name} learns from the distribution that is sampled, and the model that learns has no such limit: leave out "
            f"{', '.join(unlike)}, or take rejection or online-dpo"
        )
    if asked.kl_way not in (None, "k1") and method.kl_in == "reward":
        raise SettingsError(
            f"--kl-way {asked.kl_way}: {name} takes the penalty from the reward, where k1 is the right estimate; leave it out"
        )
    if asked.decay is not None and not method.needs_values:
        raise SettingsError(f"--decay is that of GAE, which {name} does not use: leave it out, or take ppo")
    if asked.passes > 1 and not method.has_ratio:
        raise SettingsError(
            f"{name} has no ratio to the model that sampled, so that answers are learned once: --passes 1, or take another method"
        )


def _penalties(method: Method, asked: OnlineAsked) -> Penalties:
    if not isinstance(method, Reinforce):
        return Penalties()
    way = asked.kl_way or "k3"
    return Penalties(KL if asked.kl is None else asked.kl, None if way == "full" else way, asked.entropy)


def _judges(asked: OnlineAsked) -> Judges:
    document = load_policy(asked.policy or policy_path())
    cost = cost_named(asked.cost, document) if asked.cost else None
    return Judges(
        combined(asked.rewards, document),
        cost,
        Multiplier(asked.cost_limit) if cost is not None else None,
        reward_named(asked.watcher, document) if asked.watcher else None,
    )


def method_named(name: str, max_new_tokens: int, options: Mapping[str, float]) -> Method:
    """Return a method: `rejection`, `online-` and an objective on pairs, or an objective of reinforcement learning.

    The last one's module says how answers are weighed and where the penalty stands.

    Raises:
        SettingsError: there is none, the objective learns from something else, or an option of its cannot be.
    """
    if name == "rejection":
        return Imitate()
    if name.startswith(ONLINE):
        of_pairs = pair_objective(name.removeprefix(ONLINE), **options)
        return Prefer(name, of_pairs.loss, of_pairs.needs_reference)
    loss = resolve(OBJECTIVES, name)
    module = sys.modules[loss.__module__]
    if next(iter(inspect.signature(loss).parameters)) != "samples":
        raise SettingsError(f"objective '{name}' does not learn from sampled answers")
    objective = with_options(loss, options)
    if "max_tokens" in inspect.signature(loss).parameters:
        objective = partial(objective, max_tokens=max_new_tokens)
    has_ratio = getattr(module, "HAS_RATIO", True)
    return Reinforce(name, objective, module.ADVANTAGES, module.KL_IN, has_ratio)


def learner_of(trainee: Trainee, by_value: bool) -> Learner:
    """Return a trainee as the loop wants it; its reference is the model as it is now.

    `by_value` gives it a value model: a head, trained with the rest, on the states that the language-model head reads.
    """
    model = trainee.model
    # All weights are trained: what they were is held beside them.
    reference = partial(scaled, model, 0.0) if hasattr(model, "peft_config") else held(model)
    value_head = None
    if by_value:
        value_head = nn.Linear(decoder_of(model).config.hidden_size, 1, device=trainee.loaded.device)
        nn.init.zeros_(value_head.weight)
        nn.init.zeros_(value_head.bias)
        model.add_module(VALUE_HEAD, value_head)
    return Learner(
        model,
        trainee.head,
        reference,
        trainee.chat.end_ids,
        trainee.chat.decode,
        trainee.first_layer,
        value_head,
        reference_head(trainee),
    )


def served_by(
    addresses: Sequence[str], trainee: Trainee, learner: Learner, prompts: Sequence[Asked], folder: Path, model: str
) -> Served:
    """Return vLLM servers that answer for a trainee; `folder` is where they read its adapters.

    Raises:
        ModelError: an address is none.
        SettingsError: they serve different models.
    """
    names, urls = zip(*map(server_at, addresses), strict=True)
    if len(set(names)) > 1:
        raise SettingsError(f"--rollouts name different models: {', '.join(names)}; expected servers of one")
    # The longest prompt has the most tokens that an adapter can show itself by.
    canary = max((a.ids for a in prompts), key=len)[-CANARY:]
    base = published_name(model, trainee.loaded)
    return Served(
        Servers(names[0], urls), learner, lambda to: save_weights(trainee, to, 1.0, base), folder.resolve(), canary
    )


def read_asked(data: Path, chat: ChatFormat, room: int) -> list[Asked]:
    """Return the prompts of a file: of prompts, or of comparisons, demonstrations and ratings, whose answers are left out.

    A prompt that stands there twice is taken once.

    Raises:
        DataError: rows cannot be used, or prompts are longer than `room` tokens.
    """
    examples = read_examples(data)
    # What is wrong with answers alone matters to nobody who samples new ones; such a row is left out.
    wrong = [flaw for flaw in examples.unusable if flaw.code not in ("empty-answer", "identical")]
    refuse(data, [(flaw.line, flaw.message) for flaw in wrong])
    found: dict[str, Asked] = {}
    for e in examples.examples:
        kind: Any = e.label if e.label in get_args(Kind) else "ordinary"
        prompt = Prompt(e.id, e.messages, kind, e.clause, e.id, "train")
        found.setdefault(show(e.messages), Asked(prompt, chat.prompt(e.messages)))
    long = [f"{a.prompt.id} ({len(a.ids)} tokens)" for a in found.values() if len(a.ids) > room]
    if long:
        raise DataError(
            f"{data}: {len(long)} of {len(found)} prompts leave no room for an answer: {', '.join(long[:5])}; the window leaves "
            f"{room} tokens"
        )
    return list(found.values())


def kept_beside(
    trainee: Trainee, data: Path, coefficient: float, rows_per_update: int, stage: Stage, progress: Progress
) -> Kept:
    """Return rows that are learned beside, their frozen states computed once where the stage is still to be done.

    Raises:
        DataError: rows cannot be used, or do not fit the model's window.
    """
    trees = conversation_trees(trainee, data)
    if stage.done:
        return Kept(trees, rows_per_update, coefficient)
    with packed(trainee.model):
        wanted = [False] * len(trees)
        states = freeze_states(trainee.model, trees, trainee.first_layer, wanted, stage.folder, progress)
    return Kept(trees, rows_per_update, coefficient, states)


def conversation_trees(trainee: Trainee, data: Path) -> list[Tree]:
    """Return the rows of a file of conversations or demonstrations, each with its answer.

    Raises:
        DataError: rows cannot be used, or do not fit the model's window.
    """
    examples = read_examples(data)
    refuse(data, [(flaw.line, flaw.message) for flaw in examples.unusable])
    if any(len(e.answers) != 1 for e in examples.examples):
        raise DataError(f"{data}: rows of {examples.kind}; expected conversations or demonstrations, an answer each")
    rendered = [trainee.chat.render(e.messages, e.answers[0]) for e in examples.examples]
    trees = [Tree(r.prompt, (r.answer,)) for r in rendered]
    check_window(trees, trainee.loaded, [e.id for e in examples.examples])
    return trees


def evidence_of(
    name: str, folder: Path, model: str, prompts: Sequence[Asked], judges: Judges, n_steps: int, result: OnlineResult
) -> Reinforcement:
    """Return what a run's page shows: the answers of its first and last steps are read back from its folder."""
    n = min(ENDS, len(result.steps) // 2) or 1
    first, last = range(n), range(len(result.steps) - n, len(result.steps))
    return Reinforcement(
        title=f"{name} on {len(prompts):,} prompts",
        method=name,
        model=model,
        reward=judges.reward.name,
        rewards=[reward.name for reward in judges.reward.rewards],
        watcher=judges.watcher.name if judges.watcher else "",
        cost=judges.cost.name if judges.cost else "",
        n_prompts=len(prompts),
        n_steps_asked=n_steps,
        steps=result.steps,
        ended=result.ended,
        seconds=result.seconds,
        first=[s for number in first for s in read_samples(step_file(folder, number))],
        last=[s for number in last for s in read_samples(step_file(folder, number))],
        prompts={a.prompt.id: show(a.prompt.messages) for a in prompts},
    )
