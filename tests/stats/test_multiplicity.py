import pytest

from accord.errors import DataError
from accord.stats.multiplicity import benjamini_hochberg, holm


def test_holm_by_hand():
    """Sorted 0.01, 0.02, 0.03, 0.5: times 4, 3, 2, 1 gives 0.04, 0.06, 0.06, 0.5, made monotone."""
    assert holm([0.03, 0.01, None, 0.5, 0.02]) == pytest.approx([0.06, 0.04, None, 0.5, 0.06])


def test_benjamini_hochberg_by_hand():
    """Sorted 0.01, 0.02, 0.03, 0.5: times 4/1, 4/2, 4/3, 4/4 gives 0.04, 0.04, 0.04, 0.5."""
    assert benjamini_hochberg([0.03, 0.01, None, 0.5, 0.02]) == pytest.approx([0.04, 0.04, None, 0.5, 0.04])


@pytest.mark.parametrize("adjust", [holm, benjamini_hochberg])
def test_borders(adjust):
    assert adjust([]) == []
    assert adjust([None]) == [None]
    assert adjust([0.2]) == [0.2]
    assert adjust([0.9, 1.0])[1] == 1.0
    with pytest.raises(DataError, match="between 0 and 1"):
        adjust([1.2])
