"""Puts this folder on the path of the tests below it; the starter model is loaded once for all of them."""

import pytest

from accord.models.load import load_model


@pytest.fixture(scope="session")
def starter():
    """The starter model as a `LoadedModel`."""
    return load_model("starter")
