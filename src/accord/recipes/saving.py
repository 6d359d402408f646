"""The trained model as the ecosystem reads it: adapter or weights, tokenizer and card, in a folder that is whole or not there.

Nothing that is not finite is written. All processes call these functions together, and the main one writes.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model_state_dict
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from accord.errors import AccordError
from accord.models.load import published_name
from accord.models.sharded import is_sharded, own_part, trained, trained_state
from accord.models.stacked import can_stack, save_stacked
from accord.recipes.training import Trainee
from accord.runs.atomic import write_folder, write_json
from accord.runs.folder import Stage
from accord.train.parallel import gather, is_main

# In a stage's folder: the files of the model that was saved from it, and their sizes.
SAVED = "saved.json"


def plain_card(model: str, what: str, library: str) -> str:
    """Return the model card of a single training run, which measures no safety; `library` is what loads the model."""
    return (
        f"---\nbase_model: {model}\nlibrary_name: {library}\ntags: [accord]\n---\n\n{what} with Accord. Its safety was not "
        "measured: `accord align` does that.\n"
    )


def save_finished(
    trainee: Trainee,
    stage: Stage,
    folder: Path,
    model: str,
    what: str,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> None:
    """Save the model of a finished single run with a plain card, unless it was saved before and still stands there whole.

    `model` is what was trained, as it was asked for, and `what` says how. `tokenizer` is written instead of the loaded one.

    Raises:
        AccordError: trained weights are not finite.
        InputError: the disk is full or the folder cannot be written.
    """
    if gather(_stands(stage, folder))[0]:
        return
    card = plain_card(model, what, "peft" if _is_adapter(trainee) else "transformers")
    save_model(trainee, folder, card, 1.0, published_name(model, trainee.loaded), tokenizer)
    if is_main():
        write_json(stage.folder / SAVED, _sizes(folder))


def save_model(
    trainee: Trainee,
    folder: Path,
    card: str,
    scale: float,
    base_name: str,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> None:
    """Write adapter or weights as safetensors, tokenizer and README.md in the place of what `folder` holds.

    `scale` is folded into the adapter, so that what is loaded acts at the strength that was measured. What was trained on top of an
    adapter is saved together with it (`models.stacked`). `tokenizer` is written instead of the loaded one.

    Raises:
        AccordError: trained weights are not finite.
        InputError: the disk is full or the folder cannot be written.
    """
    state = _finite_state(trainee)

    def write(work: Path) -> None:
        _write_weights(trainee, state, work, scale, base_name)
        (tokenizer or trainee.loaded.tokenizer).save_pretrained(work)
        (work / "README.md").write_text(card, encoding="utf-8")

    if is_main():
        write_folder(folder, write)


def save_weights(trainee: Trainee, folder: Path, scale: float, base_name: str) -> None:
    """Write what `save_model` writes, without tokenizer and README.md, straight into `folder`: for readers that wait for it.

    Raises:
        AccordError: trained weights are not finite.
    """
    state = _finite_state(trainee)
    if is_main():
        _write_weights(trainee, state, folder, scale, base_name)


def _finite_state(trainee: Trainee) -> dict[str, Tensor] | None:
    """Return spread weights brought together, and None of others, which are saved from where they are; all must be finite."""
    parts = {name: own_part(weight.detach()) for name, weight in trained(trainee.model).items()}
    own = [name for name, weight in parts.items() if not torch.isfinite(weight).all()]
    if strange := sorted({name for names in gather(own) for name in names}):
        raise AccordError(
            f"{len(strange)} of {len(parts)} trained weights are not finite, {strange[0]} among them; no model was saved. Train "
            "again at a lower --learning-rate, with another --out"
        )
    return trained_state(trainee.model) if is_sharded(trainee.model) else None


def _is_adapter(trainee: Trainee) -> bool:
    """Whether what is saved is an adapter: of what was trained on top of another one, no adapter may say what both are."""
    config = getattr(trainee.model, "peft_config", None)
    below = trainee.loaded.adapter
    return config is not None and (not below or can_stack(Path(below), config["default"]))


def _write_weights(
    trainee: Trainee, state: dict[str, Tensor] | None, folder: Path, scale: float, base_name: str
) -> None:
    model: Any = trainee.model
    if hasattr(model, "peft_config"):
        config = model.peft_config["default"]
        config.base_model_name_or_path = base_name
        alpha = config.lora_alpha
        config.lora_alpha = alpha * scale
        if not trainee.loaded.adapter:
            # Embeddings are never adapted; to see whether they were resized PEFT would ask the hub.
            model.save_pretrained(folder, state_dict=state, save_embedding_layers=False)
        elif _is_adapter(trainee):
            weights = get_peft_model_state_dict(model, state_dict=state, save_embedding_layers=False)
            save_stacked(Path(trainee.loaded.adapter), config, weights, folder)
        else:
            # The weights say what no adapter does.
            copy.deepcopy(model).merge_and_unload().save_pretrained(folder)
        config.lora_alpha = alpha
    else:
        if state is not None:
            state = {name: weight.to(trainee.compute) for name, weight in state.items()}
            model.config.dtype = trainee.compute
        model.save_pretrained(folder, state_dict=state)


def _stands(stage: Stage, folder: Path) -> bool:
    """Whether the model that was saved from a stage is there. Files that somebody laid beside it do not matter."""
    path = stage.folder / SAVED
    return path.exists() and json.loads(path.read_text(encoding="utf-8")).items() <= _sizes(folder).items()


def _sizes(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
