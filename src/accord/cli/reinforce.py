"""`accord train ppo|grpo|rloo|…`: one verb for each objective of reinforcement learning."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from accord.cli.objectives import with_own_options
from accord.cli.options import (
    JUDGE_HELP,
    Checkpointing,
    Layers,
    Method,
    Model,
    PrecisionName,
    Rank,
    Seed,
    Track,
    existing,
)

if TYPE_CHECKING:
    from accord.types import Estimate

REWARD_HELP = (
    "What is learned from: reward:RUN, cost:RUN (turned round), FILE.py:NAME (a function of a transcript), or a judge: "
    f"{JUDGE_HELP} "
    "Several times to add them up, each NAME or WEIGHT*NAME; llama2:SAFETY,HELPFULNESS combines two reward models as Llama 2 did."
)


JudgesPolicy = Annotated[str, typer.Option(callback=existing, help="The policy of judges; the starter policy if none.")]
MaxNewTokens = Annotated[int, typer.Option(min=1, help="The longest answer.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def _reinforce(
    data: Annotated[
        Path,
        typer.Argument(
            callback=existing, help="Prompts (JSONL); of comparisons or demonstrations the prompts are taken."
        ),
    ],
    out: Annotated[Path, typer.Option(help="The run's folder.")],
    reward: Annotated[list[str], typer.Option(help=REWARD_HELP)],
    watcher: Annotated[str, typer.Option(help="A second reward that is shown and never trains.")] = "",
    cost: Annotated[str, typer.Option(help="What an answer costs, the higher the worse: cost:RUN, or a judge.")] = "",
    cost_limit: Annotated[float, typer.Option(help="What the mean cost may be.")] = 0.0,
    model: Model = "starter",
    steps: Annotated[int, typer.Option(min=1, help="Steps of sampling and learning.")] = 50,
    prompts_per_step: Annotated[int, typer.Option(min=1, help="Prompts a step samples answers to.")] = 16,
    group: Annotated[int, typer.Option(min=1, help="Answers to a prompt.")] = 8,
    prompts_per_update: Annotated[int, typer.Option(min=1, help="Prompts an optimiser step takes up.")] = 16,
    passes: Annotated[int, typer.Option(min=1, help="Passes over what a step sampled.")] = 1,
    max_new_tokens: MaxNewTokens = 64,
    temperature: Annotated[float, typer.Option(min=0.01, help="Of sampling.")] = 1.0,
    top_p: Annotated[
        float, typer.Option(min=0.01, max=1.0, help="Sample only from the likeliest tokens up to this mass.")
    ] = 1.0,
    top_k: Annotated[int, typer.Option(min=0, help="Sample only from so many likeliest tokens; 0: all.")] = 0,
    min_p: Annotated[
        float, typer.Option(min=0.0, max=0.999, help="Sample only tokens this many times as likely as the likeliest.")
    ] = 0.0,
    stop: Annotated[list[str], typer.Option(help="A text at which an answer ends; several times.")] = [],  # noqa: B006
    cut_penalty: Annotated[
        float, typer.Option(min=0.0, help="Taken from the reward of an answer that the limit cut.")
    ] = 0.0,
    kl: Annotated[
        float | None,
        typer.Option(
            min=0.0, help="Weight of the divergence from the starting model.", show_default="0.05 where there is one"
        ),
    ] = None,
    kl_way: Annotated[
        str | None,
        typer.Option(
            help="How a divergence in the loss is taken: k1, k2, k3, or full (over the vocabulary).", show_default="k3"
        ),
    ] = None,
    decay: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="ppo: GAE's lambda.", show_default="0.95")
    ] = None,
    kl_budget: Annotated[float, typer.Option(min=0.0, help="Nats an answer at which the run ends; 0: no limit.")] = 0.0,
    entropy: Annotated[float, typer.Option(min=0.0, help="Weight of the entropy.")] = 0.0,
    ptx_data: Annotated[
        Path | None, typer.Option(callback=existing, help="Conversations that are learned beside (InstructGPT's ptx).")
    ] = None,
    ptx: Annotated[float, typer.Option(min=0.0, help="Their weight.")] = 1.0,
    rollouts: Annotated[
        list[str],
        typer.Option(
            help="vLLM servers that sample instead of the model itself, each openai:NAME@URL of the base (docs/rl.md)."
        ),
    ] = [],  # noqa: B006 (Typer reads it)
    ahead: Annotated[
        int, typer.Option(min=0, max=1, help="1: servers sample a step while the one before is learned.")
    ] = 0,
    policy: JudgesPolicy = "",
    method: Method = "lora",
    learning_rate: Annotated[
        float | None,
        typer.Option(
            min=1e-12, help="The highest step size.", show_default="1e-4 for adapters, 1e-6 for --method full"
        ),
    ] = None,
    rank: Rank = 16,
    layers: Layers = "all",
    checkpointing: Checkpointing = False,
    precision: PrecisionName = "auto",
    seed: Seed = 0,
    track: Track = [],  # noqa: B006 (Typer reads it)
    json_: AsJson = False,
    *,
    objective: str,
    options: Mapping[str, float],
) -> None:
    from accord.cli.progress import is_main_process, make_progress
    from accord.cli.tracking import tracked
    from accord.recipes.online_run import OnlineAsked, run_online
    from accord.recipes.settings import TrainingSettings, adapted_layers

    rate = (1e-6 if method == "full" else 1e-4) if learning_rate is None else learning_rate
    settings = TrainingSettings(
        model=model, method=method, precision=precision, rank=rank, seed=seed, checkpointing=checkpointing,  # type: ignore[arg-type]
        learning_rate=rate, rows_per_step=prompts_per_update, **adapted_layers(layers, method),
    )  # fmt: skip
    asked = OnlineAsked(
        rewards=tuple(reward), cost=cost, cost_limit=cost_limit, watcher=watcher, steps=steps, prompts_per_step=prompts_per_step,
        group=group, passes=passes, max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p, top_k=top_k, min_p=min_p,
        stop=tuple(stop), kl=kl, kl_way=kl_way, decay=decay, cut_penalty=cut_penalty,  # type: ignore[arg-type]
        entropy=entropy, kl_budget=kl_budget, ptx=ptx if ptx_data else 0.0, policy=policy,
        rollouts=tuple(rollouts), ahead=ahead, options=dict(options),
    )  # fmt: skip
    facts, watched, _ = run_online(
        objective, data, out, asked, settings, tracked(make_progress(), track, out), ptx_data
    )
    if not is_main_process():
        return
    if json_:
        print(json.dumps({**facts, "watched": [asdict(w) for w in watched]}))
        return
    for name, fact in facts.items():
        print(f"{name}: {fact}")
    for w in watched:
        print(f"{w.name}: {_told(w.first)} at first, {_told(w.last)} at last")


def train_soup(
    models: Annotated[
        list[str], typer.Argument(help="Two runs (or adapter folders) that were trained from one model.")
    ],
    prompts: Annotated[Path, typer.Option(callback=existing, help="Prompts (JSONL) that neither was trained on.")],
    out: Annotated[Path, typer.Option(help="The run's folder.")],
    reward: Annotated[list[str], typer.Option(help="The two rewards, one for each model.")],
    points: Annotated[int, typer.Option(min=2, help="Models to measure, both ends among them.")] = 5,
    take: Annotated[
        float | None, typer.Option(help="Keep the model with this share of the second, from 0 to 1.")
    ] = None,
    limit: Annotated[int, typer.Option(min=2, help="Prompts at most.")] = 100,
    max_new_tokens: MaxNewTokens = 64,
    policy: JudgesPolicy = "",
    precision: PrecisionName = "auto",
    seed: Seed = 0,
    json_: AsJson = False,
) -> None:
    """Measure the models between two that were trained for different aims, and keep the one that is picked (rewarded soups)."""
    from accord.cli.progress import make_progress
    from accord.errors import SettingsError
    from accord.recipes.soup_run import SoupAsked, run_soup

    for what, given in (("models", models), ("rewards", reward)):
        if len(given) != 2:
            raise SettingsError(f"{len(given)} {what}; a soup is made of two models and measured by two rewards")
    asked = SoupAsked(
        models=(models[0], models[1]), rewards=(reward[0], reward[1]), points=points, take=take, max_new_tokens=max_new_tokens,
        limit=limit, policy=policy, precision=precision, seed=seed,  # type: ignore[arg-type]
    )  # fmt: skip
    facts, found = run_soup(prompts, out, asked, make_progress())
    if json_:
        print(json.dumps({**facts, "by_share": [asdict(point) for point in found]}))
        return
    for point in found:
        print(f"{point.share:.0%} of {models[1]}: {_told(point.first)} and {_told(point.second)}")
    for name, fact in facts.items():
        print(f"{name}: {fact}")


def train_best_of_n(
    data: Annotated[Path, typer.Argument(callback=existing, help="Prompts (JSONL), or rows whose prompts are taken.")],
    out: Annotated[Path, typer.Option(help="The run's folder.")],
    reward: Annotated[list[str], typer.Option(help=REWARD_HELP)],
    watcher: Annotated[str, typer.Option(help="A second reward, which is shown and does not choose.")] = "",
    model: Model = "starter",
    group: Annotated[int, typer.Option(min=2, help="Answers to a prompt.")] = 16,
    max_new_tokens: MaxNewTokens = 64,
    temperature: Annotated[float, typer.Option(min=0.01, help="Of sampling.")] = 1.0,
    limit: Annotated[int, typer.Option(min=0, help="Prompts at most; 0: all.")] = 0,
    policy: JudgesPolicy = "",
    precision: PrecisionName = "auto",
    seed: Seed = 0,
    json_: AsJson = False,
) -> None:
    """Choose the best of several answers to each prompt, and measure what choosing among more is worth; nothing is trained."""
    from accord.cli.progress import make_progress
    from accord.recipes.best_of_n import BestAsked, run_best_of_n
    from accord.report.best_of_page import told

    asked = BestAsked(
        model=model, rewards=tuple(reward), watcher=watcher, group=group, max_new_tokens=max_new_tokens, temperature=temperature,
        limit=limit, policy=policy, precision=precision, seed=seed,  # type: ignore[arg-type]
    )  # fmt: skip
    facts, found = run_best_of_n(data, out, asked, make_progress())
    if json_:
        print(json.dumps({**facts, "best_of": asdict(found)}))
        return
    for point in found.points:
        seen = "" if point.watcher is None else f"; {found.watcher} {_told(point.watcher)}"
        print(
            f"best of {point.k}, {point.kl:.2f} nats at most: {found.reward} {_told(point.reward)} above one answer{seen}"
        )
    print(told(found))
    for name, fact in facts.items():
        print(f"{name}: {fact}")


def _told(e: Estimate) -> str:
    unscored = "".join(f"; {n} without: {why}" for why, n in e.unscored.items())
    if e.value is None:
        return f"not measured (n=0{unscored})"
    span = "no interval" if e.low is None or e.high is None else f"[{e.low:.3f}, {e.high:.3f}]"
    return f"{e.value:.3f} {span} (n={e.n}{unscored}; {e.method})"


def reinforcement_commands() -> Iterator[tuple[str, Callable[..., None]]]:
    """Return a verb for each objective on sampled answers, whose own options stand beside the shared ones, and two that choose."""
    from accord.objectives.dpo import dpo
    from accord.resolve import names_in, resolve

    for name in names_in("accord.objectives"):
        loss = resolve("accord.objectives", name)
        if next(iter(inspect.signature(loss).parameters)) == "samples":
            what = "Samples answers to prompts, scores them, and learns from which were better."
            yield name.replace("_", "-"), with_own_options(_reinforce, name, loss, what)
    what = "Samples answers to each prompt, scores them, and prefers the best to the worst."
    yield "online-dpo", with_own_options(_reinforce, "online-dpo", dpo, what)
    what = "Samples answers to each prompt, scores them, and learns the best as if it had been written."
    yield "rejection", with_own_options(_reinforce, "rejection", lambda: None, what)
