"""Agreement of two raters: the raw share and Cohen's kappa.

Left out: more than two raters and missing labels at random (Krippendorff's alpha), and weighted kappa.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from statistics import NormalDist

import numpy as np
from statsmodels.stats.inter_rater import cohens_kappa

from accord.errors import DataError
from accord.stats.intervals import proportion, wilson
from accord.types import Estimate

NOT_BOTH = "not labelled by both"


def raw_agreement(a: Sequence[Hashable], b: Sequence[Hashable], confidence: float = 0.95) -> Estimate:
    """Return the share of items on which raters `a` and `b` gave the same label, with its Wilson interval.

    An item where either label is None is left out and counted in `unscored`.

    Raises:
        DataError: if the two sequences differ in length.
    """
    pairs, unscored = _common(a, b)
    return proportion(sum(x == y for x, y in pairs), len(pairs), unscored, confidence)


def cohen_kappa(a: Sequence[Hashable], b: Sequence[Hashable], confidence: float = 0.95) -> Estimate:
    """Return Cohen's kappa `(p_o - p_e) / (1 - p_e)` of two raters' labels [n], None where it is undefined.

    Cohen (1960); the standard error is that of Fleiss, Cohen and Everitt (1969), through statsmodels. It
    vanishes at perfect agreement: there the Wilson interval of p_o is carried through the formula instead. If both
    used one and the same label, `p_e = 1` and kappa is 0/0: `method` says so, and `raw_agreement` still speaks.

    Raises:
        DataError: if the two sequences differ in length.
    """
    pairs, unscored = _common(a, b)
    n = len(pairs)
    if n == 0:
        return Estimate(None, None, None, 0, "not measured: no common items", unscored)
    codes: dict[Hashable, int] = {}
    for label in (label for pair in pairs for label in pair):
        codes.setdefault(label, len(codes))
    if len(codes) == 1:
        return Estimate(None, None, None, n, "kappa undefined: one label used", unscored)
    table = np.zeros((len(codes), len(codes)))
    np.add.at(table, ([codes[x] for x, _ in pairs], [codes[y] for _, y in pairs]), 1)
    observed = float(np.trace(table)) / n
    expected = float(table.sum(0) @ table.sum(1)) / n**2
    kappa = (observed - expected) / (1 - expected)
    stderr = float(cohens_kappa(table).std_kappa) if 0 < observed < 1 else 0.0
    if stderr > 1e-12:
        half = NormalDist().inv_cdf((1 + confidence) / 2) * stderr
        low, high, how = kappa - half, kappa + half, "analytic SE"
    else:
        bounds = wilson(observed * n, n, confidence)
        low, high = ((bound - expected) / (1 - expected) for bound in bounds)
        how = "Wilson on raw agreement, the analytic SE being 0"
    return Estimate(kappa, max(-1.0, low), min(1.0, high), n, f"Cohen's kappa, {how}, {confidence:.0%}", unscored)


def _common(a: Sequence[Hashable], b: Sequence[Hashable]) -> tuple[list[tuple[Hashable, Hashable]], dict[str, int]]:
    if len(a) != len(b):
        raise DataError(f"rater a gave {len(a)} labels and rater b {len(b)}; expected the same items in the same order")
    pairs = [(x, y) for x, y in zip(a, b, strict=True) if x is not None and y is not None]
    missing = len(a) - len(pairs)
    return pairs, ({NOT_BOTH: missing} if missing else {})
