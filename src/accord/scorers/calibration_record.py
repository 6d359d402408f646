"""Calibrations kept on disk, each bound to the exact configuration of its scorer, and the rates that they correct.

A changed rule, prompt, rubric or model has another hash, and so no calibration: its rates say "uncalibrated" again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from accord.errors import DataError
from accord.models.cache import cache_dir
from accord.runs.atomic import write_json
from accord.scorers.calibration import Calibration, rubric_of
from accord.scorers.labels import Question
from accord.scorers.scorer import Scorer
from accord.stats.judge_error import rogan_gladen_clustered
from accord.types import Estimate, Kind

_ADAPTER = TypeAdapter(Calibration)


def calibration_path(scorer: str, config_hash: str, question: Question) -> Path:
    """Return where a calibration is kept: in Accord's cache, by scorer, hash and question."""
    safe = "".join(c if c.isalnum() or c in "-_" else "-" for c in scorer)
    return cache_dir() / "calibrations" / f"{safe}-{config_hash}-{question}.json"


def save_calibration(calibration: Calibration, path: Path | None = None) -> Path:
    """Write a calibration, in the cache unless `path` says elsewhere, and return where.

    Raises:
        InputError: the folder cannot be written.
    """
    target = path or calibration_path(calibration.scorer, calibration.config_hash, calibration.question)
    write_json(target, as_json(calibration))
    return target


def as_json(calibration: Calibration) -> dict[str, Any]:
    """Return a calibration as JSON; the confusion's pairs become rows."""
    data: dict[str, Any] = _ADAPTER.dump_python(calibration, mode="json", exclude={"confusion"})
    data["confusion"] = [{"label": k[0], "outcome": str(k[1]), "n": n} for k, n in calibration.confusion.items()]
    return data


def load_calibration(
    scorer: Scorer,
    question: Question = "refusal",
    path: Path | None = None,
    asked: Iterable[tuple[Kind, str]] | None = None,
) -> Calibration | None:
    """Return the calibration of exactly this scorer, as `kept_calibration` does.

    Raises:
        DataError: the file is there and cannot be read.
    """
    return kept_calibration(scorer.name, scorer.config_hash, question, path, asked)


def kept_calibration(
    name: str,
    config_hash: str,
    question: Question = "refusal",
    path: Path | None = None,
    asked: Iterable[tuple[Kind, str]] | None = None,
) -> Calibration | None:
    """Return the calibration of exactly this configuration; None where there is none (another hash is another scorer).

    `asked` are the kinds and clauses of the prompts whose answers are judged. A scorer that judges by rubric is calibrated only
    where the calibration has rows of each of their rubrics: None where one is missing, or where it is not said what is asked.

    Raises:
        DataError: the file is there and cannot be read.
    """
    source = path or calibration_path(name, config_hash, question)
    if not source.is_file():
        return None
    try:
        data = TypeAdapter(dict[str, Any]).validate_json(source.read_bytes())
        data["confusion"] = {(row["label"], row["outcome"]): row["n"] for row in data["confusion"]}
        if "rubrics" not in data:
            # Of before a calibration was of the events that rates count: this scorer is uncalibrated again.
            return None
        calibration = _ADAPTER.validate_python(data)
    except (OSError, ValidationError, KeyError, TypeError) as error:
        raise DataError(f"{source}: not a calibration ({error}); run `accord judge calibrate {name}` again") from error
    same = (calibration.scorer, calibration.config_hash, calibration.question)
    if same != (name, config_hash, question):
        return None
    if calibration.rubrics and (asked is None or not {rubric_of(*a) for a in asked} <= set(calibration.rubrics)):
        return None
    return calibration


def corrected_rate(
    hits: Sequence[bool],
    families: Sequence[str],
    calibration: Calibration,
    hit: Literal["yes", "no"] = "yes",
    unscored: Mapping[str, int] | None = None,
    confidence: float = 0.95,
) -> Estimate:
    """Return the rate of what people would call hits, from the verdicts [N] of the scorer and their families [N].

    `hit` says whether the scorer's yes (of refusals: refused) or its no is counted. Families count as in
    `clustered_proportion`; the interval carries the calibration's own uncertainty.

    Raises:
        DataError: if lengths differ.
    """
    judge = calibration.yes if hit == "yes" else calibration.no
    found = rogan_gladen_clustered(hits, families, judge, unscored, confidence)
    return replace(found, calibration=f"corrected for {calibration.describe()}")
