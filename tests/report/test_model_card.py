import re
from dataclasses import replace

import pytest
import yaml
from demo_evidence import POLICY, demo

from accord.evals.summary import Condition, summarise
from accord.report import describe
from accord.report.model_card import STARTER_HUB_ID, model_card


def metadata(card):
    assert card.startswith("---\n")
    return yaml.safe_load(card.split("---\n")[1])


def test_metadata_is_what_the_hub_reads():
    data = metadata(model_card(demo()))
    assert data["base_model"] == STARTER_HUB_ID
    assert data["library_name"] == "peft"
    assert data["license"] == "apache-2.0"
    assert data["language"] == ["en"]
    assert {"accord", "safety", "lora"} <= set(data["tags"])


@pytest.mark.parametrize(
    ("name", "license", "base", "expected"),
    [
        ("some-lab/model-1.5B", "", "some-lab/model-1.5B", {"license": "other", "license_name": "unknown"}),
        ("some-lab/model-1.5B", "mit", "some-lab/model-1.5B", {"license": "mit"}),
        ("/home/someone/secret-project/model", "", None, {"license": "other"}),
        ("./model", "", None, {"license": "other"}),
    ],
)
def test_a_licence_is_never_guessed_and_a_path_never_published(name, license, base, expected):
    card = model_card(replace(demo(), model_name=name, model_license=license))
    data = metadata(card)
    assert data.get("base_model") == base
    assert expected.items() <= data.items()
    assert "secret-project" not in card


def test_the_table_has_every_condition_with_interval_and_n():
    evidence = demo()
    card = model_card(evidence)
    rows = [line for line in card.splitlines() if line.startswith("| ")]
    assert len(rows) == 1 + len(evidence.conditions)
    for row, condition in zip(rows[1:], evidence.conditions, strict=True):
        rate = summarise(condition, POLICY).harmful_compliance
        assert condition.name in row
        assert f"{describe.percent(rate.value)} [{describe.interval(rate)}]; {describe.counts(rate)}" in row
        assert row.count("|") == 7
    for heading in ("Intended use", "What it was trained on", "Results", "Limits", "Provenance"):
        assert f"## {heading}" in card
    assert "**Read this first.** Under “base + few-shot”" in card


def test_names_cannot_break_the_table_or_the_metadata():
    evidence = demo()
    odd = Condition("a | b\n<script>", evidence.conditions[1].attempts)
    card = model_card(replace(evidence, conditions=(*evidence.conditions, odd), title="x\n---\nlicense: mit"))
    assert metadata(card)["license"] == "apache-2.0"
    assert "| a \\| b \\<script> |" in card
    assert "\nlicense: mit" not in card


def test_nothing_measured_is_not_zero():
    card = model_card(replace(demo(), conditions=(Condition("base", ()), Condition("aligned", ())), training=()))
    assert "not measured; n = 0, 0 unscored" in card
    assert not re.search(r"(?<!\d)0\.0%", card)
    assert "No training stage is recorded" in card
