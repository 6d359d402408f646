"""`accord train reward`: a reward model, or a cost model, from comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from accord.data.checks import read_comparisons
from accord.errors import DataError
from accord.models.adapters import scaled
from accord.models.chat import ChatFormat
from accord.models.load import load_model, published_name
from accord.models.packed import packed
from accord.models.precision import pick_device
from accord.models.projection import Projection
from accord.models.reward import reward_tokenizer, score_answers, score_head, with_score_head
from accord.models.tree import Tree, head_weight
from accord.recipes.held_out import HeldOut, measure, preference_accuracy, read_held_out
from accord.recipes.reporting import machine_facts
from accord.recipes.settings import TrainingSettings
from accord.recipes.training import (
    check_window,
    make_trainee,
    pair_trees,
    plain_card,
    save_model,
    start_stage,
    train_stage,
)
from accord.runs.atomic import file_digest
from accord.train.offline import fit
from accord.train.preferences import answer_logps
from accord.train.rewards import Ranking, reward_task
from accord.train.states import NOTHING_FROZEN, freeze_states
from accord.types import Comparison, Progress


def run_reward(
    data: Path,
    dev: Path | None,
    out: Path,
    centring: float,
    margin: float,
    cost: bool,
    settings: TrainingSettings,
    drop: bool,
    progress: Progress,
) -> tuple[dict[str, Any], HeldOut | None]:
    """Train a model that scores answers; measure it on held-out comparisons.

    Comparisons with one `group_id` are one example. `margin` times a comparison's strength is by how much its better answer should
    lead. With `cost` the score is harm, and its zero the border between safe and unsafe.

    Raises:
        DataError: rows that cannot be used (without `drop`), that do not fit the model's window, or for `cost` have no labels.
    """
    given = read_comparisons(data, drop=drop)
    kept, said = read_held_out(dev, given.comparisons, drop)
    causal = load_model(settings.model, settings.precision)
    base_head = Projection(head_weight(causal.model).to(pick_device()))
    loaded = with_score_head(causal)
    trainee = make_trainee(loaded, settings)
    trees, rankings, ids = ranked_trees(trainee.chat, given.comparisons, margin, cost)
    check_window(trees, loaded, ids)
    asked = {
        **settings.asked(),
        "verb": "train cost" if cost else "train reward",
        "centring": centring,
        "margin": margin,
        "data": file_digest(data),
        "dev": file_digest(dev) if dev else "",
    }
    stage = start_stage(out, asked, machine_facts(trainee), "reward", loaded)
    facts: dict[str, Any] = {"comparisons": str(given.report), "prompts": len(trees), **said}
    held_trees = pair_trees(trainee.chat, kept)
    check_window(held_trees, loaded, [c.id for c in kept])
    before = None
    if kept:
        with packed(trainee.model), scaled(trainee.model, 0.0):
            before = answer_logps(
                trainee.model, held_trees, NOTHING_FROZEN, base_head, progress, "held-out pairs, base model"
            )

    def train(folder: Path) -> Any:
        with packed(trainee.model):
            states = freeze_states(trainee.model, trees, trainee.first_layer, [False] * len(trees), folder, progress)
        task = reward_task(trees, rankings, states, score_head(trainee.model), centring)
        return fit(trainee.model, task, settings.dials(), folder, progress, "cost" if cost else "reward")

    result = train_stage(trainee, stage, train)
    facts |= {
        "steps": len(result.steps),
        "skipped steps": result.skipped,
        "seconds": round(result.seconds, 1),
        "prompts/s": round(len(trees) * settings.epochs / result.seconds, 2),
    }
    card = plain_card(settings.model, f"{'Cost' if cost else 'Reward'} model from {len(given.comparisons)} comparisons")
    save_model(
        trainee,
        out / "model",
        card,
        1.0,
        published_name(settings.model, loaded),
        reward_tokenizer(loaded.model, loaded.tokenizer),
    )
    facts["model"] = str(out / "model")
    if before is None:
        return facts, None
    with packed(trainee.model):
        scores = score_answers(trainee.model, held_trees)
    return facts, measure(kept, -scores if cost else scores, _beside(before, held_trees), "cost" if cost else "reward")


def _beside(logps_R2: Tensor, trees: Sequence[Tree]) -> dict[str, Any]:
    lengths_R2 = torch.tensor([[len(a) for a in t.answers] for t in trees])
    return {
        "base model (log-probability)": preference_accuracy(logps_R2),
        "base model (log-probability a token)": preference_accuracy(logps_R2 / lengths_R2),
    }


def ranked_trees(
    chat: ChatFormat, comparisons: Sequence[Comparison], margin: float = 0.0, cost: bool = False
) -> tuple[list[Tree], list[Ranking], list[str]]:
    """Return one tree a prompt with all its different answers, what was said of them, and an id each.

    Raises:
        DataError: one `group_id` stands for two prompts, or labels that `cost` needs are missing or contradict each other.
    """
    groups: dict[str, list[Comparison]] = {}
    for c in comparisons:
        groups.setdefault(f"group {c.group_id}" if c.group_id else f"row {c.id}", []).append(c)
    trees: list[Tree] = []
    rankings: list[Ranking] = []
    for name, members in groups.items():
        if any(c.messages != members[0].messages for c in members):
            raise DataError(f"{name}: comparison '{members[-1].id}' has another prompt than '{members[0].id}'")
        texts = list(dict.fromkeys(text for c in members for text in (c.chosen, c.rejected)))
        trees.append(Tree(chat.prompt(members[0].messages), tuple(chat.answer(text) for text in texts)))
        rankings.append(_ranking(members, texts, margin, cost))
    return trees, rankings, [members[0].id for members in groups.values()]


def _ranking(members: Sequence[Comparison], texts: Sequence[str], margin: float, cost: bool) -> Ranking:
    place = {text: k for k, text in enumerate(texts)}
    pairs = [(place[c.chosen], place[c.rejected]) for c in members]
    return Ranking(
        # The higher cost is the rejected answer's.
        pairs=tuple((j, i) for i, j in pairs) if cost else tuple(pairs),
        margins=tuple(margin * (c.strength or 0.0) for c in members),
        preferences=tuple(1.0 if c.preference is None else c.preference for c in members),
        safe=_safe(members, texts) if cost else (),
    )


def _safe(members: Sequence[Comparison], texts: Sequence[str]) -> tuple[bool, ...]:
    said: dict[str, bool] = {}
    for c in members:
        for text, safe in ((c.chosen, c.chosen_safe), (c.rejected, c.rejected_safe)):
            if safe is None:
                raise DataError(
                    f"comparison '{c.id}': a cost model needs 'chosen_safe' and 'rejected_safe' in every row"
                )
            if said.setdefault(text, safe) != safe:
                raise DataError(f"comparison '{c.id}': an answer is safe here and unsafe in another row of its group")
    return tuple(said[text] for text in texts)
