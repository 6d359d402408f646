"""What every test shares: no deadline on a busy machine, one thread, the tiny model."""

import pytest
import torch
from hypothesis import settings
from tiny_llama import tiny

settings.register_profile("accord", deadline=None)
settings.load_profile("accord")
torch.set_num_threads(1)


@pytest.fixture
def tiny_model():
    """A fresh random Llama of 4 layers with a byte-level ChatML tokenizer, as a `LoadedModel`."""
    return tiny()
