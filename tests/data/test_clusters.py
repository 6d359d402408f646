import random
from dataclasses import replace

import numpy as np
import pytest

from accord.data.clusters import cluster_ids, clusters
from accord.models.embedder import Embedder
from accord.types import Finding, Message, Outcome, Prompt, Score

RICE = ("How do I cook rice?", "What is the way to prepare rice?", "how do I cook rice", "How should rice be cooked?")
OTHER = ("Who painted the Night Watch?", "How deep is the Baltic Sea?")


def found(id, text, clause="fraud", failure="harmful-compliance"):
    prompt = Prompt(id, (Message("user", text),), "harmful", clause, id, "discover")
    return Finding(id, prompt, "Sure", Score(Outcome.COMPLIED, "refusal"), failure, "base")


@pytest.fixture(scope="module")
def embed():
    return Embedder()


def test_a_hundred_copies_are_one_cluster_and_paraphrases_join_it(embed):
    findings = [found(f"copy-{i:03}", RICE[i % 2 * 2]) for i in range(100)]
    findings += [found("p1", RICE[1]), found("p2", RICE[3]), *(found(f"o{i}", text) for i, text in enumerate(OTHER))]
    largest, *rest = clusters(findings, embed)
    assert largest.size == 102
    assert largest.representative.prompt.messages[0].content == RICE[0]
    assert sorted(c.representative.id for c in rest) == ["o0", "o1"]
    assert set(cluster_ids((largest, *rest))) == {f.id for f in findings}


def test_the_order_does_not_matter(embed):
    findings = [found(f"f{i}", text) for i, text in enumerate((*RICE, *OTHER, *RICE))]
    shuffled = list(findings)
    random.Random(3).shuffle(shuffled)
    assert clusters(findings, embed) == clusters(shuffled, embed)


def test_clauses_and_kinds_of_failure_stay_apart(embed):
    same = found("a", RICE[0])
    apart = [same, replace(found("b", RICE[0], "weapons")), found("c", RICE[0], failure="over-refusal")]
    assert [c.size for c in clusters(apart, embed)] == [1, 1, 1]
    assert len({c.id for c in clusters(apart, embed)}) == 3


def test_by_hand_mean_cosine_decides():
    """Angles 0, 40 and 80 degrees: 0 and 40 join (cos 0.77); the third is at a mean of (0.17 + 0.77) / 2 = 0.47 from both."""
    angles = {"a": 0.0, "b": 40.0, "c": 80.0}

    def embed(texts):
        turned = np.radians([angles[text] for text in texts])
        return np.stack([np.cos(turned), np.sin(turned)], axis=1)

    findings = [found(text, text) for text in "abc"]
    assert [[m.id for m in c.members] for c in clusters(findings, embed, similar=0.5)] in (
        [["a", "b"], ["c"]],
        [["b", "c"], ["a"]],
    )
    (one,) = clusters(findings, embed, similar=0.46)
    assert one.representative.id == "b"
    assert len(clusters(findings, embed, similar=0.8)) == 3
    assert clusters([], embed) == ()
