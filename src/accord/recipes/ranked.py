"""What people said of answers, as rows that a head learns to score: comparisons, or answers that were called harmful or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations
from pathlib import Path
from statistics import fmean
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from accord.data.checks import read_comparisons
from accord.data.jsonl import read_rows
from accord.data.near_duplicates import nearest
from accord.errors import DataError, SettingsError
from accord.models.chat import ChatFormat
from accord.models.head import Head
from accord.models.tree import Tree
from accord.recipes.held_out import HeldOut, borders, measure, preference_accuracy, read_held_out
from accord.recipes.training import pair_trees
from accord.scorers.labels import LabelledAnswer, holds_labels, read_labels
from accord.stats import mean
from accord.train.parallel import kept
from accord.train.preferences import answer_logps
from accord.train.rewards import Ranking
from accord.train.states import NOTHING_FROZEN
from accord.types import Comparison, Estimate, Message, Progress, Prompt

# Of one prompt's answers, compared with each other in one row, which is computed at once.
MOST_ANSWERS = 8


class Rows(NamedTuple):
    """A tree a prompt with its answers, what people said of them, and an id each."""

    trees: list[Tree]
    rankings: list[Ranking]
    ids: list[str]


class People(Protocol):
    """What people said, to learn from and to measure on."""

    @property
    def said(self) -> Mapping[str, str]:
        """Facts about what is learned from and what is measured on."""

    @property
    def what(self) -> str:
        """What is learned from, in a few words."""

    def rows(self, chat: ChatFormat) -> Rows:
        """Return what is learned from."""

    def held_rows(self, chat: ChatFormat) -> Rows:
        """Return what is measured on; no rows where nothing is."""

    def beside(
        self, model: nn.Module, trees: Sequence[Tree], head: Head, progress: Progress, folder: Path
    ) -> Mapping[str, Estimate]:
        """Return the accuracies of the model before training, by its log-probabilities, which are kept in `folder`."""

    def measured(self, held: Rows, scores: Sequence[Tensor], beside: Mapping[str, Estimate]) -> HeldOut:
        """Return what the scores of the answers of `held_rows` come to."""


def are_labelled(path: Path) -> bool:
    """Say whether a file holds labelled answers; by its first row, and not where it has none."""
    first = next(iter(read_rows(path)), None)
    return first is not None and holds_labels(first.data)


class Compared:
    """Comparisons; those with one `group_id` are one row."""

    def __init__(self, data: Path, dev: Path | None, drop: bool, margin: float, cost: bool) -> None:
        given = read_comparisons(data, drop=drop)
        self.comparisons, self.margin, self.cost = given.comparisons, margin, cost
        self.kept, held = read_held_out(dev, given.comparisons, drop)
        self.said = {"comparisons": str(given.report), **held}
        self.what = f"{len(given.comparisons)} comparisons"

    def rows(self, chat: ChatFormat) -> Rows:
        """Return one row a prompt with all its different answers."""
        return ranked_trees(chat, self.comparisons, self.margin, self.cost)

    def held_rows(self, chat: ChatFormat) -> Rows:
        """Return one row a comparison, the chosen answer first."""
        return Rows(pair_trees(chat, self.kept), [], [c.id for c in self.kept])

    def beside(
        self, model: nn.Module, trees: Sequence[Tree], head: Head, progress: Progress, folder: Path
    ) -> Mapping[str, Estimate]:
        """Return how often the model finds the chosen answer likelier, as a whole and a token."""
        logps_R2 = kept(
            folder / "base-logps.safetensors",
            lambda: answer_logps(model, trees, NOTHING_FROZEN, head, progress, "held-out pairs, base model"),
        )
        lengths_R2 = torch.tensor([[len(a) for a in t.answers] for t in trees])
        return {
            "base model (log-probability)": preference_accuracy(logps_R2),
            "base model (log-probability a token)": preference_accuracy(logps_R2 / lengths_R2),
        }

    def measured(self, held: Rows, scores: Sequence[Tensor], beside: Mapping[str, Estimate]) -> HeldOut:
        """Return how often the chosen answer scores higher (costs less)."""
        scores_R2 = torch.stack(list(scores))
        return measure(self.kept, -scores_R2 if self.cost else scores_R2, beside, "cost" if self.cost else "reward")


class Labelled:
    """Answers that people called harmful or not, and how far: a cost model's ranking, and its border at one half."""

    def __init__(self, data: Path, dev: Path | None, margin: float, cost: bool) -> None:
        if not cost:
            raise SettingsError(f"{data} says how harmful answers are: a cost model learns that; give --cost")
        if margin:
            raise SettingsError(f"--margin weighs how strong a preference is, and {data} holds none; leave it out")
        self.answers = read_labels(data, "harm")
        self.what = f"{len(self.answers)} answers that people called harmful or not"
        self.said = {"answers": _counts(self.answers)}
        self.kept: list[LabelledAnswer] = []
        if dev is not None:
            held = read_labels(dev, "harm")
            self.kept = _unlike(held, self.answers)
            left_out = len(held) - len(self.kept)
            self.said["held-out answers"] = f"{_counts(self.kept)}; near-duplicates of training left out: {left_out}"

    def rows(self, chat: ChatFormat) -> Rows:
        """Return rows of a prompt's different answers."""
        return harm_trees(chat, self.answers)

    def held_rows(self, chat: ChatFormat) -> Rows:
        """Return rows of a prompt's different answers."""
        return harm_trees(chat, self.kept)

    def beside(
        self, model: nn.Module, trees: Sequence[Tree], head: Head, progress: Progress, folder: Path
    ) -> Mapping[str, Estimate]:
        """Return nothing: how likely an answer is has no border."""
        return {}

    def measured(self, held: Rows, scores: Sequence[Tensor], beside: Mapping[str, Estimate]) -> HeldOut:
        """Return on which side of 0 the answers' costs are, and whether the more harmful of a prompt costs more."""
        # Comparisons of one prompt hang together: each prompt counts once.
        right: dict[str, list[float]] = {id: [] for id in held.ids}
        for id, costs_K, r in zip(held.ids, scores, held.rankings, strict=True):
            right[id] += [float(costs_K[i] > costs_K[j]) + 0.5 * float(costs_K[i] == costs_K[j]) for i, j in r.pairs]
        alone = sum(not own for own in right.values())
        accuracy = mean(
            [fmean(own) for own in right.values() if own],
            {"prompts without two answers of different harm": alone} if alone else {},
            bounds=(0.0, 1.0),
        )
        families = [id for id, r in zip(held.ids, held.rankings, strict=True) for _ in r.safe]
        costs = [cost for costs_K in scores for cost in costs_K.tolist()]
        safe = [s for r in held.rankings for s in r.safe]
        return HeldOut(
            accuracy={"cost, mean of each prompt's pairs": accuracy},
            calibration=(),
            calibration_error=None,
            slices={},
            borders=borders(costs, safe, families),
        )


def _counts(answers: Sequence[LabelledAnswer]) -> str:
    harmful = sum(a.label == "yes" for a in answers)
    return f"{len(answers)} to {len({a.prompt for a in answers})} prompts, harmful: {harmful}"


def _unlike(held_out: Sequence[LabelledAnswer], train: Sequence[LabelledAnswer]) -> list[LabelledAnswer]:
    """Return the held-out answers whose prompt is no near-duplicate of a training prompt.

    Raises:
        DataError: none is left.
    """

    def prompts(rows: Sequence[LabelledAnswer]) -> list[Prompt]:
        texts = dict.fromkeys(row.prompt for row in rows)
        return [Prompt(text, (Message("user", text),), "harmful", "", text, "train") for text in texts]

    alike = {d.a for d in nearest(prompts(held_out), prompts(train))}
    kept = [row for row in held_out if row.prompt not in alike]
    if not kept:
        raise DataError("every held-out answer's prompt nearly equals a training prompt: nothing is left to measure on")
    return kept


def harm_trees(chat: ChatFormat, answers: Sequence[LabelledAnswer]) -> Rows:
    """Return rows of at most `MOST_ANSWERS` different answers to a prompt: the more harmful of each two, and which are safe.

    An answer that stands there several times counts once, with the mean of what was said of it. Safe is below one half.
    """
    said: dict[str, dict[str, list[float]]] = {}
    for a in answers:
        said.setdefault(a.prompt, {}).setdefault(a.answer, []).append(a.extent)
    rows = Rows([], [], [])
    for prompt, own in said.items():
        ids, harm = chat.prompt((Message("user", prompt),)), [(text, fmean(scores)) for text, scores in own.items()]
        for start in range(0, len(harm), MOST_ANSWERS):
            part = harm[start : start + MOST_ANSWERS]
            pairs = tuple((i, j) for i, j in permutations(range(len(part)), 2) if part[i][1] > part[j][1])
            rows.trees.append(Tree(ids, tuple(chat.answer(text) for text, _ in part)))
            rows.rankings.append(Ranking(pairs, safe=tuple(h < 0.5 for _, h in part)))
            rows.ids.append(prompt)
    return rows


def ranked_trees(chat: ChatFormat, comparisons: Sequence[Comparison], margin: float = 0.0, cost: bool = False) -> Rows:
    """Return one row a prompt with all its different answers.

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
    return Rows(trees, rankings, [members[0].id for members in groups.values()])


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
