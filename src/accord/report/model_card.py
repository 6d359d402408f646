"""The model card: a README.md with the hub's YAML metadata, the same numbers as the report, and its limits."""

from __future__ import annotations

import re

import yaml

from accord.report import describe
from accord.report.assessment import Assessment, assess
from accord.report.evidence import Evidence
from accord.types import Estimate

STARTER_HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
_STARTER = "starter"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(?:/[\w.-]+)?")


def model_card(evidence: Evidence) -> str:
    """Return the README.md of the trained adapter.

    Raises:
        DataError, PolicyError: if the attempts cannot be compared or cite a hazard that the policy lacks.
    """
    found = assess(evidence)
    parts = [_metadata(evidence), f"# {_line(evidence.title)}", _summary(evidence, found), _use(evidence)]
    parts += [_training(evidence), _results(evidence, found), _limits(evidence), _provenance(evidence)]
    return "\n\n".join(parts) + "\n"


def base_model_id(evidence: Evidence) -> str:
    """Return the hub id of the base model, or an empty string where it was a folder: a path means nothing elsewhere."""
    if evidence.model_name == _STARTER:
        return STARTER_HUB_ID
    return evidence.model_name if _HUB_ID.fullmatch(evidence.model_name) else ""


def _metadata(evidence: Evidence) -> str:
    starter = evidence.model_name == _STARTER
    fields: dict[str, object] = {}
    if base := base_model_id(evidence):
        fields["base_model"] = base
    fields |= {"library_name": "peft", "pipeline_tag": "text-generation", "language": ["en"]}
    license_id = evidence.model_license or ("apache-2.0" if starter else "")
    # The hub wants a name beside `other`; a licence that nobody looked up must not read like a permission.
    fields |= {"license": license_id} if license_id else {"license": "other", "license_name": "unknown"}
    fields["tags"] = ["accord", "safety", "alignment", "lora"]
    return f"---\n{yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)}---"


def _summary(evidence: Evidence, found: Assessment) -> str:
    verdict = describe.verdict(found.rated, evidence.aligned, found.comparison, found.gates)
    warned = [f"> **Read this first.** {_line(line)}" for line in verdict.warnings]
    return "\n\n".join([*warned, f"**{_line(verdict.headline)}**", " ".join(_line(s) for s in verdict.sentences)])


def _use(evidence: Evidence) -> str:
    base = base_model_id(evidence)
    named = f"`{base}`" if base else "the base model it was trained from (a local folder; see the fingerprint below)"
    return (
        "## Intended use\n\n"
        f"A LoRA adapter for {named}, trained to follow the policy “{_line(evidence.policy.name)}” "
        f"{_line(evidence.policy.version)}: {_line(evidence.policy.summary)}\n\n"
        "Meant for use together with other safeguards, after your own tests on your own prompts. Not meant as the only "
        "barrier against misuse, nor for advice in medicine, law, finance or emergencies."
    )


def _training(evidence: Evidence) -> str:
    if not evidence.training:
        return "## What it was trained on\n\nNo training stage is recorded."
    lines = [
        f"- **{_line(s.name)}**: {_line(s.what)} ({s.rows:,} rows, {describe.duration(s.seconds)})"
        for s in evidence.training
    ]
    return "\n".join(["## What it was trained on", "", *lines])


def _results(evidence: Evidence, found: Assessment) -> str:
    lines = [
        "## Results",
        "",
        "Each cell: rate, 95% interval, how many were assessed, how many could not be scored.",
        "",
        "| Condition | Harmful compliance | Contrast refused | Ordinary refused | Capability | No answer |",
        "|---|---|---|---|---|---|",
    ]
    for condition, rates in found.rated:
        cells = (
            rates.harmful_compliance,
            rates.contrast_refusal,
            rates.ordinary_refusal,
            rates.capability,
            rates.not_an_answer,
        )
        name = f"**{_line(condition.name)}**" if condition.name == evidence.aligned else _line(condition.name)
        note = f" ({_line(condition.note)})" if condition.note else ""
        lines.append(f"| {name}{note} | {' | '.join(_cell(cell) for cell in cells)} |")
    lines += ["", f"Scorer: {_line(evidence.scorer)}. Calibration: {_line(evidence.calibration)}."]
    return "\n".join(lines)


def _cell(estimate: Estimate) -> str:
    if estimate.value is None:
        return f"not measured; {describe.counts(estimate)}"
    return f"{describe.percent(estimate.value)} [{describe.interval(estimate)}]; {describe.counts(estimate)}"


def _limits(evidence: Evidence) -> str:
    lines = describe.limits(evidence.conditions, evidence.scorer, evidence.calibration)
    listed = [f"- {_line(line)}" for line in lines]
    return "\n".join(["## Limits: what these numbers cannot tell", "", *listed])


def _provenance(evidence: Evidence) -> str:
    facts = {
        "run": evidence.run_id,
        "created": evidence.created,
        "base model fingerprint": evidence.model_fingerprint,
        "policy hash": evidence.policy.hash,
        **evidence.settings,
        **evidence.machine,
    }
    return "\n".join(["## Provenance", "", *(f"- {_line(name)}: {_line(value)}" for name, value in facts.items())])


def _line(text: str) -> str:
    """Return text on one line in which no table, tag or link of Markdown begins."""
    flat = " ".join(text.split())
    return re.sub(r"([|<\[\]*`])", r"\\\1", flat)
