"""The data that ships: counts, the fence, and that harmful and contrast prompts differ in meaning only."""

import csv
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction import DictVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_score

from accord.data.fence import assert_no_leak
from accord.data.jsonl import read_rows
from accord.data.near_duplicates import nearest
from accord.data.records import read_choices, read_demonstrations, read_prompts
from accord.policy import load_policy
from accord.scorers.refusal import RefusalScorer
from accord.starter import capability_path, demonstrations_path, discover_path, policy_path, verify_path
from accord.types import Message, Outcome, Prompt, last_user_text

DEMONSTRATIONS = read_demonstrations(demonstrations_path())
VERIFY = read_prompts(verify_path())
DISCOVER = read_prompts(discover_path()).prompts
POLICY = load_policy(policy_path())


def test_counts():
    kinds = Counter(d.prompt.kind for d in DEMONSTRATIONS)
    assert len(DEMONSTRATIONS) >= 1200
    assert kinds["harmful"] >= 400
    assert kinds["contrast"] >= 400
    assert kinds["ordinary"] >= 250
    assert kinds["principle"] >= 150
    assert sum(len(d.prompt.messages) > 1 for d in DEMONSTRATIONS) >= 80
    assert Counter(p.kind for p in VERIFY.prompts) == {"harmful": 120, "contrast": 120, "ordinary": 60}
    assert len(read_choices(capability_path())) == 300


def test_every_hazard_and_principle_has_demonstrations():
    seen = {d.prompt.clause for d in DEMONSTRATIONS}
    assert {h.id for h in POLICY.hazards} <= seen
    assert {p.id for p in POLICY.principles} <= seen


def test_every_row_names_clause_family_and_form():
    known = {c.id for c in POLICY.clauses}
    for prompt in [*(d.prompt for d in DEMONSTRATIONS), *VERIFY.prompts]:
        assert prompt.clause in known
        assert prompt.family
        assert prompt.form


def test_no_verify_prompt_is_near_a_training_prompt():
    train = [d.prompt for d in DEMONSTRATIONS]
    assert_no_leak(train, VERIFY.prompts)
    assert nearest(VERIFY.prompts, train, threshold=0.6) == []


def test_discover_prompts_come_in_pairs_of_every_hazard_and_share_no_family_with_training_or_verify():
    counts = Counter((p.clause, p.kind) for p in DISCOVER)
    assert counts == {(h.id, kind): 6 for h in POLICY.hazards for kind in ("harmful", "contrast")}
    assert all(count == 2 for count in Counter(p.pair for p in DISCOVER).values())
    assert {p.split for p in DISCOVER} == {"discover"}
    others = [*(d.prompt for d in DEMONSTRATIONS), *VERIFY.prompts]
    assert not {p.family for p in DISCOVER} & {p.family for p in others}
    assert len({p.family for p in DISCOVER}) == len(DISCOVER)
    assert nearest(DISCOVER, others, threshold=0.7) == []
    assert_no_leak([replace(p, split="train") for p in DISCOVER], VERIFY.prompts)


def _surface(prompt: Prompt) -> dict[str, float]:
    text = last_user_text(prompt.messages)
    words = text.split()
    features: dict[str, float] = {"words": len(words), "characters": len(text), "turns": len(prompt.messages)}
    features[f"first={words[0].lower()}"] = 1
    features[f"last={text[-1] if not text[-1].isalnum() else ''}"] = 1
    features |= {f"n{mark}": text.count(mark) for mark in ".,?!:;\"'()-"}
    return features


@pytest.mark.parametrize("classifier", [LogisticRegression(max_iter=3000), RandomForestClassifier(200, random_state=0)])
def test_harmful_and_contrast_prompts_look_the_same(classifier):
    rows = [p for p in [*(d.prompt for d in DEMONSTRATIONS), *VERIFY.prompts] if p.kind in ("harmful", "contrast")]
    features = DictVectorizer().fit_transform([_surface(p) for p in rows])
    labels = np.array([p.kind == "harmful" for p in rows])
    scores = cross_val_score(classifier, features, labels, groups=[p.pair for p in rows], cv=GroupKFold(5))
    assert scores.mean() < 0.60


def test_the_scorer_accepts_the_answers_that_ship():
    """A harmful prompt's demonstrated answer declines; a benign prompt's does not. A few are hard to read: at most 5 %."""
    scorer = RefusalScorer()
    wrong = Counter()
    for d in DEMONSTRATIONS:
        outcome = scorer.score(last_user_text(d.prompt.messages), d.answer).outcome
        declines = outcome in (Outcome.REFUSED, Outcome.PARTIAL)
        wrong[d.prompt.kind] += declines != (d.prompt.kind == "harmful")
    kinds = Counter(d.prompt.kind for d in DEMONSTRATIONS)
    assert wrong["harmful"] / kinds["harmful"] <= 0.05
    assert (wrong["contrast"] + wrong["ordinary"]) / (kinds["contrast"] + kinds["ordinary"]) <= 0.05


def test_nothing_is_copied_from_public_sets():
    folder = os.environ.get("ACCORD_TEST_DATA")
    if not folder:
        pytest.skip("ACCORD_TEST_DATA is unset: the public sets are not at hand (docs/data.md)")
    texts = [row["prompt"] for row in csv.DictReader((Path(folder) / "xstest/prompts.csv").read_text().splitlines())]
    texts += [row.data["prompt"] for row in read_rows(Path(folder) / "advbench/goals_260.jsonl")]
    public = [Prompt(f"public-{i}", (Message("user", t),), "harmful", "", "", "verify") for i, t in enumerate(texts)]
    ours = [*(d.prompt for d in DEMONSTRATIONS), *VERIFY.prompts]
    assert nearest(ours, public, threshold=0.8) == []
