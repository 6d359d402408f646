"""P-values adjusted for how many comparisons were looked at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from statsmodels.stats.multitest import multipletests

from accord.errors import DataError


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return Holm's step-down adjusted p-values, which hold the chance of any false alarm; None (not tested) stays None.

    Holm (1979), "A simple sequentially rejective multiple test procedure", through statsmodels. Valid under any dependence.

    Raises:
        DataError: a value lies outside [0, 1].
    """
    return _adjusted(p_values, "holm")


def benjamini_hochberg(p_values: Sequence[float | None]) -> list[float | None]:
    """Return p-values adjusted for the share of false alarms among what is called different; None (not tested) stays None.

    Benjamini and Hochberg (1995), "Controlling the false discovery rate", through statsmodels. Valid where tests are
    independent or positively dependent.

    Raises:
        DataError: a value lies outside [0, 1].
    """
    return _adjusted(p_values, "fdr_bh")


def _adjusted(p_values: Sequence[float | None], method: str) -> list[float | None]:
    tested = [p for p in p_values if p is not None]
    if not all(0 <= p <= 1 for p in tested):
        raise DataError(f"p-values must lie between 0 and 1; given: {list(p_values)}")
    if not tested:
        return list(p_values)
    adjusted = iter(np.asarray(multipletests(tested, method=method)[1]).tolist())
    return [None if p is None else next(adjusted) for p in p_values]
