"""`accord train distil`: context distillation, what the model says with a system prompt before it, learned without.

The teacher is the model as it was before training, reading the system prompt; the student reads the prompt alone. Along each answer
the student's whole distribution is brought to the teacher's, at every token (Askell et al., arXiv 2112.00861, §2.3; Hinton et al.,
arXiv 1503.02531). Prompts without an answer are answered by the teacher first. Left out: a teacher of other weights, and choosing
answers by a reward (`feedback.context_distillation`, which learns from text).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from accord.data.examples import Example, read_examples
from accord.data.jsonl import refuse, write_rows
from accord.data.messages import messages_to_rows, with_system
from accord.errors import DataError, SettingsError
from accord.models.adapters import scaled
from accord.models.chat import ChatFormat
from accord.models.head import Head
from accord.models.load import load_model
from accord.models.packed import packed
from accord.models.rollout import generate
from accord.models.sampling import Sampling
from accord.models.sharded import sharding_asked
from accord.models.tree import Tree
from accord.recipes.held_out import unlike_training
from accord.recipes.reporting import machine_facts
from accord.recipes.retain import NO_RETAIN, Retain
from accord.recipes.saving import save_finished
from accord.recipes.settings import TrainingSettings
from accord.recipes.training import (
    Trainee,
    check_window,
    make_trainee,
    reference_head,
    retaining,
    start_stage,
    train_stage,
)
from accord.runs.atomic import file_digest
from accord.stats import mean
from accord.train.imitation import distillation_task, teacher_kl
from accord.train.offline import TrainResult, TrainSettings, fit
from accord.train.parallel import is_main, kept
from accord.train.retained import Retained
from accord.train.states import FrozenStates, forget_states, freeze_states
from accord.types import Estimate, Message, Progress

KINDS = ("conversations", "demonstrations", "prompts")
ANSWERS = "answers.jsonl"


@dataclass(frozen=True, slots=True)
class _Rows:
    """The same answers after what the student reads, and after what the teacher reads, by row."""

    student: list[Tree]
    teacher: list[Tree]


def run_distillation(
    data: Path,
    dev: Path | None,
    out: Path,
    system: str,
    max_new_tokens: int,
    settings: TrainingSettings,
    progress: Progress,
    retain: Retain = NO_RETAIN,
) -> tuple[dict[str, Any], dict[str, Estimate]]:
    """Learn to answer as under `system` without it; return the facts, and how far from the teacher held-out answers are.

    That is KL(teacher || model) a token, the mean over each held-out row's answer, before and after, in nats: means over rows.
    Held-out rows whose prompt nearly equals a training prompt are left out and counted. Where rows have no answers, the teacher's
    own, sampled at temperature 1 and of at most `max_new_tokens` tokens, take their place; `out/answers.jsonl` shows them.

    Raises:
        DataError: rows that cannot be used, or that do not fit the model's window under `system`.
        SettingsError: `system` is empty; or answers are to be sampled, and the weights are spread over processes.
    """
    if not system.strip():
        raise SettingsError(
            "the system prompt is empty: teacher and student would read the same, and nothing be learned"
        )
    examples = _read(data)
    held_out, said = _held_out(dev, examples)
    loaded = load_model(settings.model, settings.precision)
    trainee = make_trainee(loaded, settings)
    for own in (examples, held_out):
        _check(trainee, own, system, max_new_tokens)
    retained = retain.read(trainee)
    asked = {
        **settings.asked(),
        **retain.asked(),
        "verb": "train distil",
        "system": system,
        "data": file_digest(data),
        "dev": file_digest(dev) if dev else "",
        "max_new_tokens": max_new_tokens,
    }
    teacher = f"the starting model, {settings.model}, under the system prompt"
    stage = start_stage(out, asked, {**machine_facts(trainee), "teacher": teacher}, "distil", loaded)
    sampling = Sampling(max_new_tokens, 1.0, settings.seed)
    rows, held = (
        _rows(trainee.chat, own, system, _answers(trainee, own, system, sampling, stage.folder / f"{name}.safetensors"))
        for own, name in ((examples, "answers"), (held_out, "held-out-answers"))
    )
    teacher_head = reference_head(trainee)
    distances: dict[str, Estimate] = {}
    if held_out:
        distance = _distance(trainee, held, teacher_head, stage.folder / "held-out", progress)
        with scaled(trainee.model, 0.0):
            distances["base model"] = distance("held-out rows, base model")

    result = train_stage(
        trainee, stage, partial(_train, trainee, rows, retained, teacher_head, settings.dials(), progress)
    )
    if held_out:
        distances["distilled"] = distance("held-out rows, trained model")
    what = f"Context distillation on {len(examples)} rows"
    save_finished(trainee, stage, out / "model", settings.model, what)
    if is_main():
        forget_states(stage.folder)
        if not examples[0].answers:
            _write_answers(out / ANSWERS, trainee.chat, examples, rows.student)
    n_tokens = sum(t.length for t in rows.student)
    return {
        "rows": len(examples),
        "answers": "the rows'" if examples[0].answers else f"the teacher's own: {out / ANSWERS}",
        "teacher": teacher,
        **said,
        **retained.facts(),
        "tokens": n_tokens,
        "supervised tokens": sum(len(t.answers[0]) for t in rows.student),
        "steps": len(result.steps),
        "skipped steps": result.skipped,
        "last loss": round(result.steps[-1].loss, 4),
        "seconds": round(result.seconds, 1),
        "tokens/s": round(n_tokens * settings.epochs / result.seconds),
        "model": str(out / "model"),
    }, distances


def _train(
    trainee: Trainee,
    rows: _Rows,
    retained: Retained,
    teacher_head: Head,
    dials: TrainSettings,
    progress: Progress,
    folder: Path,
) -> TrainResult:
    teacher = _teacher_states(trainee, rows.teacher, folder / "teacher", progress)
    nothing = [False] * len(rows.student)
    with packed(trainee.model):
        states = freeze_states(trainee.model, rows.student, trainee.first_layer, nothing, folder, progress)
    task = distillation_task(rows.student, states, teacher, trainee.head, teacher_head)
    task = retaining(trainee, retained, task, folder, progress)
    return fit(trainee.model, task, dials, folder, progress, "distillation")


def _read(path: Path) -> tuple[Example, ...]:
    file = read_examples(path)
    if file.kind not in KINDS:
        raise DataError(
            f"{path} holds {file.kind}; expected conversations or demonstrations, or prompts without answers"
        )
    refuse(path, [(u.line, u.message) for u in file.unusable])
    return file.examples


def _held_out(dev: Path | None, train: Sequence[Example]) -> tuple[tuple[Example, ...], dict[str, str]]:
    """Return the held-out rows whose prompt is no near-duplicate of a training prompt, and what is said of them."""
    if dev is None:
        return (), {}
    given = _read(dev)
    unlike = tuple(unlike_training(given, train, "row"))
    return unlike, {"held-out rows": f"{len(unlike)}, near-duplicates of training left out: {len(given) - len(unlike)}"}


def _rows(chat: ChatFormat, examples: Sequence[Example], system: str, answers: Sequence[tuple[int, ...]]) -> _Rows:
    return _Rows(
        [Tree(chat.prompt(e.messages), (a,)) for e, a in zip(examples, answers, strict=True)],
        [Tree(chat.prompt(with_system(system, e.messages)), (a,)) for e, a in zip(examples, answers, strict=True)],
    )


def _check(trainee: Trainee, examples: Sequence[Example], system: str, max_new_tokens: int) -> None:
    """Refuse rows longer than the model's window, with an answer of the most tokens where it is still to be sampled."""
    if sharding_asked() and any(not e.answers for e in examples):
        raise SettingsError(
            "to sample answers, weights must be whole in each process: launch it with DDP, or give rows with answers"
        )
    longest = [trainee.chat.answer(e.answers[0]) if e.answers else (0,) * max_new_tokens for e in examples]
    both = _rows(trainee.chat, examples, system, longest)
    for trees in (both.teacher, both.student):
        check_window(trees, trainee.loaded, [e.id for e in examples])


def _answers(
    trainee: Trainee, examples: Sequence[Example], system: str, sampling: Sampling, path: Path
) -> list[tuple[int, ...]]:
    """Return each row's answer as token ids: its own, or what the teacher says, which is kept: sampled again it could differ."""
    chat = trainee.chat
    if all(e.answers for e in examples):
        return [chat.answer(e.answers[0]) for e in examples]

    def sample() -> tuple[torch.Tensor, torch.Tensor]:
        prompts = [chat.prompt(with_system(system, e.messages)) for e in examples]
        with scaled(trainee.model, 0.0):
            said = generate(trainee.model, prompts, [e.id for e in examples], chat.end_ids, sampling)
        ids = torch.tensor([token for rollout in said for token in rollout.ids])
        return ids, torch.tensor([len(rollout.ids) for rollout in said])

    ids, sizes = kept(path, sample)
    return [tuple(part.tolist()) for part in ids.split(sizes.tolist())]


def _write_answers(path: Path, chat: ChatFormat, examples: Sequence[Example], trees: Sequence[Tree]) -> None:
    said = [Message("assistant", chat.decode(tree.answers[0])) for tree in trees]
    write_rows(path, [{"messages": messages_to_rows((*e.messages, m))} for e, m in zip(examples, said, strict=True)])


def _teacher_states(trainee: Trainee, trees: Sequence[Tree], folder: Path, progress: Progress) -> FrozenStates:
    """Return the teacher's last states along the answers: those of the model as it is now."""
    with packed(trainee.model):
        return freeze_states(trainee.model, trees, 0, [True] * len(trees), folder, progress)


def _distance(
    trainee: Trainee, rows: _Rows, teacher_head: Head, folder: Path, progress: Progress
) -> Callable[[str], Estimate]:
    """Return what measures how far the model, as it is when asked, is from the teacher, which is the model as it is now."""
    teacher = _teacher_states(trainee, rows.teacher, folder, progress)

    def measure(stage: str) -> Estimate:
        with packed(trainee.model):
            kl_R = teacher_kl(trainee.model, rows.student, teacher, trainee.head, teacher_head, progress, stage)
        return mean(kl_R.tolist())

    return measure
