"""`accord train soup`: the models between two that were trained for different aims, so that the point is picked after training.

Rewarded soups (Ramé et al., arXiv 2306.04488): between adapters trained from one beginning, one for each reward, weights are
interpolated, and both rewards measured at each point on prompts that neither saw.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from accord.data.jsonl import write_rows
from accord.errors import SettingsError
from accord.models.chat import ChatFormat
from accord.models.load import load_model, load_tokenizer, resolve, window
from accord.models.precision import Precision
from accord.models.sampling import Sampling
from accord.models.stacked import save_soup
from accord.policy import load_policy
from accord.recipes.online_run import read_asked
from accord.recipes.reporting import machine_facts
from accord.recipes.reward_truth import ANSWERS
from accord.recipes.saving import plain_card
from accord.report.reinforcement import mean_over_prompts
from accord.report.soup_page import SoupPoint, write_soup
from accord.runs.atomic import file_digest, write_folder
from accord.runs.folder import open_run
from accord.scorers.as_reward import Weighted, reward_named
from accord.starter import policy_path
from accord.train.collect import Judges, Source, collect
from accord.train.samples import Sample, read_samples, write_samples
from accord.types import Progress


@dataclass(frozen=True, slots=True)
class SoupAsked:
    """Two models, a reward for each, how many points between them (the ends among them), and the share of the second to keep."""

    models: tuple[str, str]
    rewards: tuple[str, str]
    points: int = 5
    take: float | None = None
    max_new_tokens: int = 64
    limit: int = 100
    policy: str = ""
    precision: Precision = "auto"
    seed: int = 0


def run_soup(
    data: Path, out: Path, asked: SoupAsked, progress: Progress
) -> tuple[dict[str, Any], tuple[SoupPoint, ...]]:
    """Measure both rewards at points between two models, and keep the one that is asked for in `out/model`.

    Raises:
        SettingsError: the two rewards have one name, or a share is no number from 0 to 1.
        ModelError: the models are no adapters on one base.
    """
    if asked.take is not None and not 0 <= asked.take <= 1:
        raise SettingsError(f"--take {asked.take:g}: the second model's share is a number from 0 to 1")
    document = load_policy(asked.policy or policy_path())
    judges = Judges(Weighted(tuple((1.0, reward_named(name, document)) for name in asked.rewards)))
    names = [reward.name for reward in judges.reward.rewards]
    if len(set(names)) < len(names):
        raise SettingsError(f"both rewards are {names[0]}: a soup trades one for another")
    folders = [Path(resolve(name)) for name in asked.models]
    said = {**asdict(asked), "verb": "train soup", "data": file_digest(data), "take": None}
    open_run(out, said, machine_facts())
    points: list[SoupPoint] = []
    for share in [k / (asked.points - 1) for k in range(asked.points)]:
        samples = _at(share, folders, data, out, asked, judges, progress)
        points.append(SoupPoint(share, *(mean_over_prompts(samples, name) for name in names)))
    write_rows(out / "points.jsonl", (asdict(point) for point in points))
    page = write_soup(asked.models, names, points, out / "report.html")
    facts: dict[str, Any] = {"points": len(points), "report": str(page)}
    if asked.take is not None:
        facts["model"] = str(_keep(asked.take, folders, out, asked))
    return facts, tuple(points)


def _at(
    share: float, folders: Sequence[Path], data: Path, out: Path, asked: SoupAsked, judges: Judges, progress: Progress
) -> list[Sample]:
    """Return answers of the model at a share of the second, scored; from the run's folder where they are there already."""
    path = out / "answers" / f"{share:.3f}.jsonl"
    if not path.exists():
        progress.say(f"{share:.0%} of {asked.models[1]}")
        folder = out / "between"
        shutil.rmtree(folder, ignore_errors=True)
        _write(share, folders, folder)
        loaded = load_model(str(folder), asked.precision)
        chat = ChatFormat(loaded.tokenizer)
        prompts = read_asked(data, chat, window(loaded.model) - asked.max_new_tokens)[: asked.limit]
        source = Source(loaded.model, chat.end_ids, chat.decode)
        sampling = Sampling(asked.max_new_tokens, 1.0, asked.seed)
        write_samples(path, collect(source, judges, prompts, ANSWERS, sampling))
        shutil.rmtree(folder)
    return read_samples(path)


def _write(share: float, folders: Sequence[Path], folder: Path) -> None:
    save_soup(folders, (1 - share, share), folder)
    load_tokenizer(str(folders[0])).save_pretrained(folder)


def _keep(share: float, folders: Sequence[Path], out: Path, asked: SoupAsked) -> Path:
    target = out / "model"
    what = f"{1 - share:.0%} of {asked.models[0]} and {share:.0%} of {asked.models[1]}, made"

    def write(work: Path) -> None:
        _write(share, folders, work)
        (work / "README.md").write_text(plain_card(asked.models[0], what, "peft"), encoding="utf-8")

    write_folder(target, write)
    return target
