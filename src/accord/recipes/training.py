"""A model in training, and the two offline stages: demonstrations with a retain term, and preference pairs."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from accord.errors import DataError
from accord.models.adapters import add_lora, n_layers
from accord.models.chat import ChatFormat
from accord.models.checkpointing import recompute_layers
from accord.models.head import Head, LiveHead
from accord.models.load import LoadedModel, window
from accord.models.packed import packed
from accord.models.projection import Projection
from accord.models.sharded import is_sharded, shard, sharding_asked, value_of
from accord.models.tree import Tree, decoder_of, head_weight
from accord.objectives.pairs import Pairs
from accord.objectives.reduction import Losses
from accord.recipes.settings import AlignSettings
from accord.resolve import resolve, with_options
from accord.runs.folder import Stage, open_run
from accord.train.checkpoint import restore_weights
from accord.train.imitation import common_onsets, refusal_forks, sft_task
from accord.train.mixture import Mixture
from accord.train.offline import TrainResult, TrainSettings, fit, read_result
from accord.train.parallel import is_main, kept, main_first, wait
from accord.train.preferences import answer_logps, preference_task
from accord.train.retained import NOTHING_RETAINED, Retained
from accord.train.states import forget_states, freeze_states
from accord.types import Comparison, Demonstration, Message, Progress

OBJECTIVES = "accord.objectives"
# How chat models decline by themselves, in whatever words a policy's demonstrations decline.
OWN_DECLINES = (
    "I'm sorry, but I can't help",
    "I'm sorry, I can't",
    "I'm sorry, but as an AI",
    "I'm sorry for the confusion, but",
    "I'm sorry for any confusion, but",
    "I'm sorry for the misunderstanding, but",
    "I'm sorry for your loss, but",
    "I'm afraid I can't help",
    "I'm not able to help with",
)


@dataclass(frozen=True)
class Trainee:
    """A loaded model made trainable. `first_layer` is 0 where all layers are trained; `compute` is what is multiplied in."""

    loaded: LoadedModel
    chat: ChatFormat
    model: nn.Module
    first_layer: int
    compute: torch.dtype

    @property
    def head(self) -> Head:
        """The language-model head, packed where it is frozen."""
        if is_sharded(self.model):
            return LiveHead(self.model)
        weight = head_weight(self.model)
        return weight if weight.requires_grad else Projection(weight)


def start_stage(out: Path, asked: Mapping[str, Any], facts: Mapping[str, Any], name: str, loaded: LoadedModel) -> Stage:
    """Open the folder of a run with one stage, once for all processes that train together.

    Raises:
        InputError: the folder holds another run, or something that is no run.
    """
    with main_first():
        return open_run(out, asked, facts).stage(name, {"model": loaded.fingerprint})


def train_stage(trainee: Trainee, stage: Stage, train: Callable[[Path], TrainResult]) -> TrainResult:
    """Train in a stage's folder; where the stage is finished, read weights and log back from its last checkpoint."""
    if stage.done:
        restore_weights(trainee.model, stage.folder)
        return read_result(stage.folder)
    result = train(stage.folder)
    if is_main():
        forget_states(stage.folder)
        stage.finish({"seconds": result.seconds, "skipped": result.skipped})
    wait()
    return result


class Adapting(Protocol):
    """What says which weights are trained."""

    @property
    def method(self) -> str:
        """`lora`, `dora`, `rslora` or `full`."""

    @property
    def first_layer(self) -> int:
        """First layer with adapters; -1: the upper three fifths."""

    @property
    def last_layer(self) -> int:
        """Last layer with adapters; -1: the model's last."""

    @property
    def rank(self) -> int:
        """The adapters' rank."""

    @property
    def checkpointing(self) -> bool:
        """Whether each layer is computed again in the backward pass."""

    @property
    def seed(self) -> int:
        """Fixes the adapters' first weights."""


def make_trainee(loaded: LoadedModel, settings: Adapting) -> Trainee:
    """Put adapters on the upper layers, or make every weight trainable. The seed fixes the adapters' first weights.

    Where the run was launched with a configuration that spreads weights over processes, they are spread.
    """
    torch.manual_seed(settings.seed)
    chat = ChatFormat(loaded.tokenizer)
    if settings.checkpointing:
        recompute_layers(loaded.model)
    spread = sharding_asked()
    compute = loaded.model.dtype
    if settings.method == "full":
        if spread:
            loaded.model.float()  # each process steps its part in fp32; the layers run on what is rounded from it
        trainee = Trainee(loaded, chat, loaded.model.requires_grad_(True), 0, compute)
    else:
        total = n_layers(loaded.model)
        first_layer = settings.first_layer if settings.first_layer >= 0 else round(0.4 * total)
        kind: Any = settings.method  # not "full"
        model = add_lora(loaded, settings.rank, first_layer, kind=kind, last_layer=settings.last_layer)
        trainee = Trainee(loaded, chat, model, first_layer, compute)
    if spread:
        shard(trainee.model, decoder_of(trainee.model).layers, compute if settings.method == "full" else None)
    return trainee


def train_on_demonstrations(
    trainee: Trainee,
    demonstrations: Sequence[Demonstration],
    settings: AlignSettings,
    folder: Path,
    progress: Progress,
) -> TrainResult:
    """Learn the answers to harmful prompts; on all other prompts stay with the base model.

    Every answer is learned in its beginning, where it is decided, and a `whole_share` of them to the end of the turn.

    Nothing said to a benign prompt is imitated. The base model's distribution is kept along two paths of `retain_tokens` tokens:
    the demonstrated answer, and the beginning of some refusal, one of the demonstrated ones or of `OWN_DECLINES`. The tokens with
    which such beginnings leave all that benign prompts are answered are taken out of what is kept. Without these paths a model
    that has come to "I'm" would go on refusing, whatever it was asked (docs/log.md says what was measured).

    Raises:
        DataError: prompts that do not fit the model's window, each named.
    """
    trees = demonstration_trees(trainee.loaded, trainee.chat, demonstrations, settings)
    learned = _learned(demonstrations)
    want_last = [not learn for learn in learned]
    head = trainee.head
    with packed(trainee.model):
        states = freeze_states(trainee.model, trees, trainee.first_layer, want_last, folder, progress)
    base_head = reference_head(trainee)
    onsets = common_onsets(trees, learned)
    forks = refusal_forks(trees, learned)
    task = sft_task(trees, learned, states, head, base_head, onsets, settings.retain_tokens, settings.retain, forks)
    dials = _dials(settings, settings.sft_epochs, settings.sft_learning_rate, settings.seed)
    return fit(trainee.model, task, dials, folder, progress, "SFT", units=matched_rows(demonstrations))


def reference_head(trainee: Trainee) -> Head:
    """Return the head as it is before training: the weight itself where it is frozen, a copy of it where it will be trained."""
    weight = head_weight(trainee.model)
    if not weight.requires_grad:
        return trainee.head
    return value_of(weight.detach()).to(trainee.compute, copy=True)


def retaining(trainee: Trainee, retained: Retained, task: Mixture, folder: Path, progress: Progress) -> Mixture:
    """Return a task with the retain term beside it: the base model is the model as it is now, before training."""
    if not retained.trees:
        return task
    base_head = reference_head(trainee)
    model, first_layer = trainee.model, trainee.first_layer
    return retained.beside(task, model, first_layer, trainee.head, base_head, folder / "retained", progress)


def matched_rows(demonstrations: Sequence[Demonstration]) -> list[list[int]]:
    """Return the rows by pair, a row without a pair alone.

    A harmful prompt and the benign one of the same form in one step: what both have in common cancels out of its gradient, and
    what tells them apart remains (docs/log.md says how much that was worth).
    """
    units: dict[str, list[int]] = {}
    for i, d in enumerate(demonstrations):
        units.setdefault(d.prompt.pair or f"row {i}", []).append(i)
    return list(units.values())


def _learned(demonstrations: Sequence[Demonstration]) -> list[bool]:
    return [d.prompt.kind == "harmful" for d in demonstrations]


def demonstration_trees(
    loaded: LoadedModel, chat: ChatFormat, demonstrations: Sequence[Demonstration], settings: AlignSettings
) -> list[Tree]:
    """Return what SFT trains on: by row a prompt and the answers, or paths, that are taken up after it.

    Raises:
        DataError: prompts that do not fit the model's window, each named.
    """
    learned = _learned(demonstrations)
    rendered = [chat.render(d.prompt.messages, d.answer) for d in demonstrations]
    n = settings.retain_tokens
    beginnings = [r.answer[:n] for r, learn in zip(rendered, learned, strict=True) if learn]
    declines = [chat.answer(text)[:n] for text in OWN_DECLINES]
    rng = random.Random(f"{settings.seed}:paths")
    answers: tuple[tuple[int, ...], ...]
    trees: list[Tree] = []
    for r, learn in zip(rendered, learned, strict=True):
        if learn:
            answers = (r.answer if rng.random() < settings.whole_share else r.answer[:n],)
        else:
            answers = (r.answer[:n], *([rng.choice(rng.choice((beginnings, declines)))] if beginnings else []))
        trees.append(Tree(r.prompt, answers))
    check_window(trees, loaded, [d.prompt.id for d in demonstrations])
    return trees


@dataclass(frozen=True, slots=True)
class PairObjective:
    """An objective on pairs: its name, its loss with its options filled in, and what it uses beside the model's log-probabilities.

    That is a reference to compare with, and how probable the raters' preferences are.
    """

    name: str
    loss: Callable[[Pairs], Losses]
    needs_reference: bool
    uses_preference: bool


def pair_objective(name: str, **options: float) -> PairObjective:
    """Return an objective by the name of its module.

    Raises:
        SettingsError: there is none, or an option of its cannot be.
    """
    loss = resolve(OBJECTIVES, name)
    needs = sys.modules[loss.__module__].NEEDS
    return PairObjective(name, with_options(loss, options), "ref_logps" in needs, "preference" in needs)


def train_on_pairs(
    trainee: Trainee,
    trees: Sequence[Tree],
    objective: PairObjective,
    dials: TrainSettings,
    folder: Path,
    progress: Progress,
    preference: Tensor | None = None,
    retained: Retained = NOTHING_RETAINED,
) -> TrainResult:
    """Prefer one answer to another, from the model as it is now, which is its own reference."""
    head = trainee.head
    with packed(trainee.model):
        states = freeze_states(trainee.model, trees, trainee.first_layer, [False] * len(trees), folder, progress)
        ref_logps = None
        if objective.needs_reference:
            stage = "reference log-probabilities"
            compute = partial(answer_logps, trainee.model, trees, states, head, progress, stage)
            ref_logps = kept(folder / "reference.safetensors", compute)
    task = preference_task(trees, states, head, ref_logps, objective.loss, preference, objective.name)
    task = retaining(trainee, retained, task, folder, progress)
    return fit(trainee.model, task, dials, folder, progress, objective.name.upper().replace("_", " "))


def dpo_dials(settings: AlignSettings) -> TrainSettings:
    """Return the loop's dials for a round's second stage."""
    return _dials(settings, settings.dpo_epochs, settings.dpo_learning_rate, settings.seed + 1)


def _dials(settings: AlignSettings, epochs: int, learning_rate: float, seed: int) -> TrainSettings:
    return TrainSettings(
        epochs=epochs,
        learning_rate=learning_rate,
        weight_decay=settings.weight_decay,
        rows_per_step=settings.rows_per_step,
        seed=seed,
    )


def pair_trees(chat: ChatFormat, comparisons: Sequence[Comparison]) -> list[Tree]:
    """Return each comparison as a tree: its prompt, the chosen and the rejected answer."""
    return [pair_tree(chat, c.messages, c.chosen, c.rejected) for c in comparisons]


def pair_tree(
    chat: ChatFormat, messages: Sequence[Message], chosen: str, rejected: str, rejected_is_cut: bool = False
) -> Tree:
    """Return one pair as a tree. An answer that was cut while sampling carries no end of the turn."""
    first = chat.render(messages, chosen)
    second = chat.render(messages, rejected).answer
    if rejected_is_cut:
        second = second[: -len(chat.answer(""))]
    return Tree(first.prompt, (first.answer, second))


def check_window(trees: Sequence[Tree], loaded: LoadedModel, ids: Sequence[str]) -> None:
    """Refuse rows that do not fit the model's window; none is cut in silence.

    Raises:
        DataError: naming how many and which.
    """
    limit = window(loaded.model)
    sizes: Mapping[str, int] = {
        name: len(t.prompt) + max(map(len, t.answers)) for name, t in zip(ids, trees, strict=True)
    }
    long = [f"{name} ({size} tokens)" for name, size in sizes.items() if size > limit]
    if long:
        raise DataError(
            f"{len(long)} of {len(trees)} rows are longer than the model's window of {limit} tokens: {', '.join(long[:5])}"
            " … shorten or remove them"
        )
