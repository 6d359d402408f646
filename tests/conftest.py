"""What every test shares: no deadline on a busy machine, one thread, the tiny model."""

import pytest
import torch
from hypothesis import settings
from tiny_llama import save, tiny

settings.register_profile("accord", deadline=None)
settings.load_profile("accord")
torch.set_num_threads(1)


# Minutes each: first, so that none is left for one process at the end.
LONG = (
    "test_parallel",
    "test_online",
    "test_safety_round",
    "test_offline",
    "test_finetuned",
    "test_eval",
    "test_single_runs",
)


def pytest_collection_modifyitems(items):
    """Files in this order, the tests of each in their own."""
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))


@pytest.fixture
def tiny_model():
    """A fresh random Llama of 4 layers with a byte-level ChatML tokenizer, as a `LoadedModel`."""
    return tiny()


@pytest.fixture
def tiny_folder(tmp_path):
    """The tiny model as a model folder; its window holds 512 tokens."""
    return save(tiny(), tmp_path / "tiny")


@pytest.fixture
def wide_folder(tmp_path):
    """The tiny model with maps of 64 and 128 inputs, which 4-bit weights need, as a model folder."""
    return save(tiny(hidden=64), tmp_path / "wide")


@pytest.fixture
def tiny_folder_without_template(tmp_path):
    """A model folder whose tokenizer has no chat template."""
    loaded = tiny()
    loaded.tokenizer.chat_template = None
    return save(loaded, tmp_path / "no-template")
