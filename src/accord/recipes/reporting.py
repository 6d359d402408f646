"""A round's outputs: the report, the model with its card, findings, and the manifest's last entries."""

from __future__ import annotations

import datetime
import math
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import accelerate
import peft
import torch
import transformers

from accord import __version__
from accord.data.records import write_records
from accord.evals.gates import gate_record
from accord.evals.summary import Condition
from accord.models.load import STARTER, published_name
from accord.models.quantised import number_format
from accord.policy import Policy
from accord.recipes.saving import save_model
from accord.recipes.settings import AlignSettings
from accord.recipes.training import Trainee
from accord.report.assessment import assess
from accord.report.evidence import Evidence, RoundEvidence, TrainingStage
from accord.report.model_card import model_card
from accord.report.page import write_report
from accord.runs.folder import Run
from accord.scorers.calibration_record import load_calibration
from accord.train.offline import TrainResult
from accord.types import Finding, Progress

if TYPE_CHECKING:
    from accord.recipes.operating_point import Curve
    from accord.scorers.refusal import RefusalScorer

SCORER_SENTENCE = (
    "Refusals are recognised by RefusalScorer, rules over grammar and structure. It reads English, does not judge whether "
    "an answer is harmful or right, and seldom recognises a partial refusal."
)


@dataclass(frozen=True, slots=True)
class StageRecord:
    """A training stage: its name, what it trained on in words, how many rows, and its result where it ran."""

    name: str
    words: str
    rows: int
    result: TrainResult | None


def machine_facts(trainee: Trainee | None = None) -> dict[str, str]:
    """Return the machine and versions, as a manifest and a report show them."""
    facts = {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "accord": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "peft": peft.__version__,
        "accelerate": accelerate.__version__,
    }
    if trainee:
        facts["device"] = str(trainee.loaded.device)
        facts["number format"] = number_format(trainee.loaded.model)
    return facts


def write_outputs(
    run: Run,
    settings: AlignSettings,
    *,
    material_hashes: Mapping[str, str],
    policy: Policy,
    trainee: Trainee,
    conditions: Sequence[Condition],
    aligned: str,
    curve: Curve,
    strength: float,
    rounds: Sequence[RoundEvidence],
    stages: Sequence[StageRecord],
    findings: Sequence[Finding],
    scorer: RefusalScorer,
    seconds: float,
    peak_gib: float,
    progress: Progress,
) -> Path:
    """Write report.html, model/, findings.jsonl and complete the manifest; return the report's path."""
    by_kind = {k: sum(a.prompt.kind == k for a in conditions[0].attempts) for k in ("harmful", "contrast", "ordinary")}
    evidence = Evidence(
        title=f"Safety alignment of {settings.model}",
        run_id=run.folder.name,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        model_name=published_name(settings.model, trainee.loaded),
        model_fingerprint=trainee.loaded.fingerprint,
        policy=policy,
        conditions=tuple(conditions),
        aligned=aligned,
        rounds=tuple(rounds),
        scorer=SCORER_SENTENCE,
        judge=load_calibration(scorer),
        gates=policy.round_gates,
        curve=curve.points,
        chosen_scale=curve.chosen,
        rule=curve.rule,
        training=tuple(
            TrainingStage(s.name, s.words, s.rows, s.result.seconds, _losses(s.result))
            for s in stages
            if s.result is not None
        ),
        machine=machine_facts(trainee),
        settings={k: str(v) for k, v in settings.asked().items() if v not in ("", 0)},
        prompt_sets={**by_kind, "capability": len(conditions[0].choices)},
        findings=tuple(findings),
        wall_seconds=seconds,
        peak_memory_gib=peak_gib,
        model_license="apache-2.0" if settings.model == STARTER else "",
    )
    progress.say("writing the report, the model and the findings")
    write_records(run.folder / "findings.jsonl", findings)
    save_model(trainee, run.folder / "model", model_card(evidence), strength, evidence.model_name)
    page = write_report(evidence, run.folder)
    run.record(
        gates=[gate_record(result) for result in assess(evidence).gates],
        finished=evidence.created,
        model_fingerprint=trainee.loaded.fingerprint,
        data=dict(material_hashes),
        scorer=scorer.config_hash,
        chosen_scale=curve.chosen,
        peak_memory_gib=round(peak_gib, 2),
    )
    return page


def _losses(result: TrainResult) -> tuple[tuple[int, float], ...]:
    """A skipped step has no loss to draw."""
    return tuple((log.step, log.loss) for log in result.steps if math.isfinite(log.loss))


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    values = dict(line.split(":", 1) for line in lines if ":" in line)
    fields = {k.strip(): v.strip() for k, v in values.items()}
    name = fields.get("model name", platform.machine())
    return f"{name} (family {fields.get('cpu family', '?')}, model {fields.get('model', '?')})"
