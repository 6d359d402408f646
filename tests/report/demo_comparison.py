"""Two made-up evaluations. TEST DATA: nothing here was measured."""

import random
import sys
from pathlib import Path

from accord.evals.comparison import compare_runs
from accord.evals.results import Evaluation, ItemResult, SuiteResult

NAMES = ("runs/eval-base", "runs/eval-aligned")


def suite(name, metric, higher, rate, seed, n=200, families=200, unscored=0.01, span=(0.0, 1.0), graded=False):
    """Draw values with a part that both runs share, so that pairs agree more than chance."""
    shared, own = random.Random(name), random.Random(seed)
    items = []
    for i in range(n):
        u = 0.7 * shared.random() + 0.3 * own.random()
        value = (
            float(u < rate)
            if not graded
            else round(span[0] + (span[1] - span[0]) * min(1.0, rate + 0.2 * (u - 0.5)), 3)
        )
        lost = own.random() < unscored
        items.append(
            ItemResult(f"{name}-{i:03d}", f"f{i % families}", None if lost else value, "timed out" if lost else "")
        )
    return SuiteResult(
        name, metric, higher, tuple(items), "items scored", "test data", "none", "h", "rules", low=span[0], high=span[1]
    )


def runs():
    """A base and an aligned model: safer, a little less capable, one suite in one run only, one without a pair."""
    one = (
        suite("harm", "harmful_compliance", False, 0.7, 1),
        suite("over_refusal", "refusal_rate", False, 0.1, 1, n=120, families=40),
        suite("gsm8k", "accuracy", True, 0.42, 1, n=200),
        suite("bbq", "bias_score_ambiguous", False, 0.55, 1, n=90, span=(-1.0, 1.0), graded=True),
        suite("reward", "helpfulness", True, 0.5, 1, n=60, span=(0.0, 10.0), graded=True),
        suite("toxicity", "toxic_share", False, 0.5, 1, n=20, unscored=1.0),
        suite("xstest", "refusal_rate", False, 0.2, 1, n=30),
    )
    two = (
        suite("harm", "harmful_compliance", False, 0.3, 2, unscored=0.09),
        suite("over_refusal", "refusal_rate", False, 0.12, 2, n=110, families=40),
        suite("gsm8k", "accuracy", True, 0.28, 2, n=210),
        suite("bbq", "bias_score_ambiguous", False, 0.54, 2, n=90, span=(-1.0, 1.0), graded=True),
        suite("reward", "helpfulness", True, 0.58, 2, n=60, span=(0.0, 10.0), graded=True),
        suite("toxicity", "toxic_share", False, 0.5, 2, n=20),
    )
    return Evaluation("starter", "a", 0, "", one, {}), Evaluation("runs/align", "b", 0, "", two, {})


def found(sought=None):
    """The comparison of the two."""
    return compare_runs(*runs(), NAMES, sought)


if __name__ == "__main__":  # python tests/report/demo_comparison.py FILE: to look at the page
    from accord.report.comparison_page import write_comparison

    print(write_comparison(found(), runs(), Path(sys.argv[1])))
