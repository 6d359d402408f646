"""How far a fine-tuned classifier agrees with people, beside one on fixed embeddings and beside keywords.

The requests of a set that people scored are dealt into two halves by a hash of their words, so that no request is in both. On each
half both classifiers are trained and judge the other half: every answer is judged once, by a classifier that saw neither it nor its
request. What people are undecided on (a mean of exactly one half) is left out. Intervals are clustered by request. The form of
the classifier was chosen on half 0; half 1 was not looked at before.

Run: `python benchmarks/finetuned_vs_people.py SET [--half 0|1] [--quick]`, minutes each; SET is objective, harm or refusal; the
environment's ACCORD_TEST_DATA names the data folder.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence

import torch
from machine import data_folder, finish, processor, say
from scorers_vs_people import UNDECIDED, Scored, agreement, read_scored

from accord.models.embedder import Embedder
from accord.scorers.classifier import train_classifier
from accord.scorers.finetuned import train_finetuned
from accord.scorers.keywords import KeywordScorer
from accord.scorers.scorer import Scorer
from accord.types import Estimate, Outcome, Score

FINETUNED, EMBEDDINGS, KEYWORDS = "finetuned", "embeddings", "keywords"


def half_of(request: str) -> int:
    """Return which half a request falls into."""
    return hashlib.sha256(request.encode()).digest()[-1] % 2


def judge(train: Sequence[Scored], test: Sequence[Scored], refusal: bool, embedder: Embedder) -> dict[str, list[Score]]:
    """Return what each scorer says of `test`."""
    transcripts = [r.transcript for r in train]
    complied = [(r.mean > UNDECIDED) != refusal for r in train]
    scorers: dict[str, Scorer] = {
        FINETUNED: train_finetuned(transcripts, complied),
        EMBEDDINGS: train_classifier(transcripts, complied, embedder),
        KEYWORDS: KeywordScorer(),
    }
    return {name: scorer.score_all([r.transcript for r in test]) for name, scorer in scorers.items()}


def held_against(rows: Sequence[Scored], scores: Sequence[Score], refusal: bool) -> Estimate:
    """Return the share of verdicts that are the majority's."""
    verdicts = [
        (s.outcome in (Outcome.COMPLIED, Outcome.PARTIAL)) != refusal if s.outcome.assessed else None for s in scores
    ]
    return agreement(rows, verdicts, [s.reason for s in scores])


def main() -> None:
    """Measure one set and print the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("set", choices=("objective", "harm", "refusal"))
    parser.add_argument("--half", type=int, choices=(0, 1), help="judge this half only, trained on the other")
    parser.add_argument("--quick", action="store_true", help="40 answers: shows that it runs")
    options = parser.parse_args()
    scored = [r for r in read_scored(data_folder() / "human-scored" / f"{options.set}.jsonl") if r.mean != UNDECIDED]
    rows = scored[:: max(1, len(scored) // 40)] if options.quick else scored
    halves = [[r for r in rows if half_of(r.request) == half] for half in (0, 1)]
    refusal, embedder = options.set == "refusal", Embedder()
    judged: list[Scored] = []
    scores: dict[str, list[Score]] = {FINETUNED: [], EMBEDDINGS: [], KEYWORDS: []}
    for half in (0, 1) if options.half is None else (options.half,):
        said = judge(halves[1 - half], halves[half], refusal, embedder)
        say(f"{options.set}, half {half}: trained on {len(halves[1 - half])}, judged {len(halves[half])}")
        for name, each in said.items():
            say(f"  {name}: {_told(held_against(halves[half], each, refusal))}")
            scores[name] += each
        judged += halves[half]
    found = {name: held_against(judged, each, refusal) for name, each in scores.items()}
    for name, e in found.items():
        say(f"{options.set}, {name}: {_told(e)}")
    ours, peer = found[FINETUNED].value, found[EMBEDDINGS].value
    finish(
        {
            "work": f"agreement with people on {options.set}, trained on the other half",
            "ours": ours,
            "peer": peer,
            "unit": "share of answers judged as people did",
            "ratio": ours / peer if ours and peer else None,
            "share_of_limit": None,
            "processor": processor(torch.device("cpu")),
            "sets": {
                name: {"value": e.value, "low": e.low, "high": e.high, "n": e.n, "unscored": dict(e.unscored)}
                for name, e in found.items()
            },
        }
    )


def _told(e: Estimate) -> str:
    span = "not measured" if e.value is None else f"{e.value:.1%} [{e.low:.1%}, {e.high:.1%}] of n={e.n}"
    return f"{span}; unscored {e.n_unscored}{f' {dict(e.unscored)}' if e.unscored else ''}; {e.method}"


if __name__ == "__main__":
    main()
