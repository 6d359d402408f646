"""Before and after on the same prompts: the difference of two rates, its interval, and an exact test.

Left out: comparing more than two runs at once; how many comparisons are looked at is corrected in `multiplicity`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from statsmodels.stats.contingency_tables import mcnemar

from accord.errors import DataError
from accord.stats.bootstrap import bootstrap_replicates, cluster_bootstrap, few_families_factor, percentile
from accord.stats.intervals import NOT_MEASURED, wilson
from accord.types import Estimate

LEFT_OUT = "not assessed in both"
# Below this the percentile bootstrap is too narrow, so the wider of it and the score interval is given.
_FEW_FAMILIES = 10
_FEW_GRADED = 20


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """A paired comparison of two rates; `difference` is after minus before, in [-1, 1].

    `only_before` and `only_after` are the discordant pairs: hits that were lost and hits that were gained.
    `p_value` is McNemar's exact two-sided test of equal rates; it takes pairs as independent, so with families of many
    forms read the interval first. It is None where no pair was assessed.
    """

    difference: Estimate
    before: float | None
    after: float | None
    n: int
    n_left_out: int
    n_families: int
    both: int
    only_before: int
    only_after: int
    neither: int
    p_value: float | None


def paired_difference(
    before: Sequence[bool | None],
    after: Sequence[bool | None],
    families: Sequence[str],
    confidence: float = 0.95,
    n_boot: int = 2000,
    seed: int = 0,
) -> PairedDifference:
    """Compare verdicts on the same prompts [N] before and after; None is not assessed, left out and counted.

    The interval is a percentile bootstrap over families. Where that cannot vary (all pairs agree, or one family) it is
    Newcombe's paired score interval, and below 10 families the wider of the two at each end: never of zero width.

    Raises:
        DataError: if the three sequences differ in length, or `confidence` is outside (0, 1).
    """
    if not len(before) == len(after) == len(families):
        raise DataError(
            f"a paired comparison was given {len(before)} verdicts before, {len(after)} after and {len(families)} "
            "families; expected one of each a prompt, in the same order"
        )
    kept = [(b, a, f) for b, a, f in zip(before, after, families, strict=True) if b is not None and a is not None]
    n, n_left_out = len(kept), len(before) - len(kept)
    unscored = {LEFT_OUT: n_left_out} if n_left_out else {}
    if n == 0:
        none = Estimate(None, None, None, 0, NOT_MEASURED, unscored)
        return PairedDifference(none, None, None, 0, n_left_out, 0, 0, 0, 0, 0, None)
    both = sum(bool(b and a) for b, a, _ in kept)
    only_before = sum(bool(b and not a) for b, a, _ in kept)
    only_after = sum(bool(a and not b) for b, a, _ in kept)
    neither = n - both - only_before - only_after
    kept_families = [f for _, _, f in kept]
    n_families = len(set(kept_families))

    changes = [float(a) - float(b) for b, a, _ in kept]
    replicates_B = bootstrap_replicates(changes, kept_families, np.random.default_rng(seed), n_boot=n_boot)
    # The fallback's n shrinks as the families do, so that one family of many forms is not taken for many observations.
    factor = few_families_factor(n, n_families, confidence)
    score = newcombe_paired(both * factor, only_before * factor, only_after * factor, neither * factor, confidence)
    low, high, how = _interval(percentile(replicates_B, confidence), score, n_families)
    method = f"paired difference, {how}, {confidence:.0%}, {n_families} families"
    difference = Estimate((only_after - only_before) / n, low, high, n, method, unscored)
    return PairedDifference(
        difference,
        before=(both + only_before) / n,
        after=(both + only_after) / n,
        n=n,
        n_left_out=n_left_out,
        n_families=n_families,
        both=both,
        only_before=only_before,
        only_after=only_after,
        neither=neither,
        p_value=mcnemar_exact(only_before, only_after),
    )


def _interval(bootstrap: tuple[float, float], score: tuple[float, float], n_families: int) -> tuple[float, float, str]:
    """Return the interval to give, and the name of its method."""
    if n_families < 2 or math.isclose(*bootstrap, abs_tol=1e-12):
        return *score, "Newcombe's paired score interval (the bootstrap cannot vary)"
    if n_families < _FEW_FAMILIES:
        low, high = min(bootstrap[0], score[0]), max(bootstrap[1], score[1])
        return low, high, "wider of a family bootstrap and Newcombe's paired score interval"
    return *bootstrap, "percentile bootstrap by family"


def paired_mean_difference(
    changes: Sequence[float], families: Sequence[str], span: float, confidence: float = 0.95, seed: int = 0
) -> Estimate:
    """Return the mean of graded changes [N], each in [-span, span]: after minus before on the same items.

    The interval is a percentile bootstrap over families. Where that cannot vary, or rests on fewer than 20 families, it is
    Wilson's on the scale of the changes with one observation a family: a bounded value varies no more than a coin of the same
    mean (Bhatia and Davis 2000, "A better bound on the variance"), so it is wide enough, and never of zero width.

    Raises:
        DataError: if lengths differ or a change is not finite.
    """
    found = cluster_bootstrap(changes, families, np.random.default_rng(seed), confidence=confidence)
    n_families = len(set(families))
    if found.value is None or (found.low is not None and n_families >= _FEW_GRADED):
        return found
    share = min(1.0, max(0.0, (found.value + span) / (2 * span)))
    low, high = (span * (2 * end - 1) for end in wilson(share * n_families, n_families, confidence))
    return replace(
        found, low=low, high=high, method=f"Wilson {confidence:.0%} on the scale of the changes, {n_families} families"
    )


def macro_difference(groups: Sequence[Estimate], span: float, confidence: float = 0.95) -> Estimate:
    """Return the unweighted mean of differences [K], one a group of pairs, each in [-span, span] with an interval.

    The interval joins the groups' own, which are independent where no family lies in two groups: with value v and K groups its
    lower end is `v - sqrt(sum((v_g - low_g)^2)) / K` (MOVER: Zou and Donner 2008, "Construction of confidence limits about effect
    measures: a general approach"), clipped to what a difference can be.
    """
    ends = [(e.value, e.low, e.high) for e in groups]
    known = [(v, low, high) for v, low, high in ends if v is not None and low is not None and high is not None]
    n = sum(e.n for e in groups)
    if not known or len(known) < len(groups):
        return Estimate(None, None, None, n, NOT_MEASURED)
    value = sum(v for v, _, _ in known) / len(known)
    below = math.hypot(*(v - low for v, low, _ in known)) / len(known)
    above = math.hypot(*(high - v for v, _, high in known)) / len(known)
    method = f"macro mean of {len(known)} groups' paired differences, their intervals combined, {confidence:.0%}"
    return Estimate(value, max(-span, value - below), min(span, value + above), n, method)


def mcnemar_exact(only_before: int, only_after: int) -> float:
    """Return McNemar's exact two-sided p-value from the discordant counts; 1 where there are none."""
    if only_before + only_after == 0:
        return 1.0
    result = mcnemar(np.array([[0, only_before], [only_after, 0]]), exact=True)
    return min(1.0, float(result.pvalue))


def newcombe_paired(
    both: float, only_before: float, only_after: float, neither: float, confidence: float = 0.95
) -> tuple[float, float]:
    """Return Newcombe's score interval of `p_after - p_before` from the four cells of a paired table.

    Newcombe (1998), "Improved confidence intervals for the difference between binomial proportions based on paired
    data", method 10: two Wilson intervals joined through the continuity-corrected correlation phi. Its width is never
    zero, since the correction keeps phi below 1.

    Raises:
        DataError: if the table is empty or a cell is negative.
    """
    if min(both, only_before, only_after, neither) < 0:
        raise DataError(f"negative cell in a paired table: {(both, only_before, only_after, neither)}")
    n = both + only_before + only_after + neither
    if n == 0:
        raise DataError("a paired interval was asked of an empty table; expected at least one assessed pair")
    after, before = (both + only_after) / n, (both + only_before) / n
    low_a, high_a = wilson(min(both + only_after, n), n, confidence)
    low_b, high_b = wilson(min(both + only_before, n), n, confidence)
    product = (both + only_after) * (only_before + neither) * (both + only_before) * (only_after + neither)
    excess = both * neither - only_before * only_after
    if excess > 0:
        excess = max(excess - n / 2, 0.0)
    phi = excess / math.sqrt(product) if product > 0 else 0.0
    down_a, up_a, down_b, up_b = after - low_a, high_a - after, before - low_b, high_b - before
    below = math.sqrt(max(0.0, down_a**2 - 2 * phi * down_a * up_b + up_b**2))
    above = math.sqrt(max(0.0, up_a**2 - 2 * phi * up_a * down_b + down_b**2))
    return max(-1.0, after - before - below), min(1.0, after - before + above)
