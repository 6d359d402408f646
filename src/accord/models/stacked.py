"""Adapters that add up: one trained on top of another, and the mean of several on one base, each as one adapter.

A model that is loaded from an adapter has it folded into its weights; what is then trained stands on that. Saved by itself, over
the base that both began with, it would be another model, and PEFT has no adapter whose base is an adapter. Two LoRA adapters of a
map add up to one of the sum of their ranks: W + s_1 B_1 A_1 + s_2 B_2 A_2 = W + [s_1 B_1, s_2 B_2] [A_1; A_2].
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file
from torch import Tensor

from accord.errors import ModelError

_PREFIX, _DOWN, _UP = "base_model.model.", ".lora_A.weight", ".lora_B.weight"
_WEIGHTS = "adapter_model.safetensors"


def can_stack(first: Path, config: LoraConfig) -> bool:
    """Whether both are plain sums to the weights. DoRA's row lengths are none."""
    return not config.use_dora and not _read(first).use_dora


def stacked(first: Path, config: LoraConfig, state: Mapping[str, Tensor]) -> tuple[LoraConfig, dict[str, Tensor]]:
    """Return configuration and weights of the adapter in the folder `first` and the one on top of it together.

    `state` holds the second's weights as PEFT saves them, whatever else is saved with it (a head) is taken from it. The new
    adapter's scale is 1.
    """
    lower = _read(first)
    made, joint = _joined([(lower, load_file(first / _WEIGHTS), 1.0), (config, state, 1.0)], config)
    made.base_model_name_or_path = _base_name(first)
    return made, {**{key: value for key, value in state.items() if ".lora_" not in key}, **joint}


def save_soup(folders: Sequence[Path], weights: Sequence[float], folder: Path) -> None:
    """Write the mean, weighted, of adapters that stand on one base: of the models, in what each adds to it.

    Ramé et al., "Rewarded soups", arXiv 2306.04488, §2.2: models trained for several rewards from one beginning lie so near to each
    other that the models between them are good at both in between.

    Raises:
        ModelError: they stand on different bases, one is no adapter, or one is DoRA's, whose row lengths are no sum.
    """
    if missing := [f for f in folders if not (f / "adapter_config.json").exists()]:
        raise ModelError(f"{missing[0]} holds no adapter; a soup is made of adapters on one base")
    configs = [_read(f) for f in folders]
    bases = sorted(set(map(_base_name, folders)))
    if len(bases) > 1:
        raise ModelError(
            f"these adapters stand on different bases ({', '.join(bases)}), between which there is nothing"
        )
    if dora := [str(f) for f, c in zip(folders, configs, strict=True) if c.use_dora]:
        raise ModelError(f"{dora[0]} is a DoRA adapter, which is no sum to the weights; train with lora or rslora")
    parts = [(c, load_file(f / _WEIGHTS), w) for c, f, w in zip(configs, folders, weights, strict=True)]
    made, joint = _joined(parts, configs[0])
    made.base_model_name_or_path = bases[0]
    _write(made, joint, folder)


def _base_name(folder: Path) -> str:
    """Return the base that an adapter names: a folder, which may have been typed from elsewhere, by its absolute path."""
    name = str(_read(folder).base_model_name_or_path)
    return os.path.abspath(name) if Path(name).is_dir() else name


def _joined(
    parts: Sequence[tuple[Any, Mapping[str, Tensor], float]], like: Any
) -> tuple[LoraConfig, dict[str, Tensor]]:
    """Return the sum of adapters, each times a factor, as one of the sum of their ranks and scale 1."""
    pairs: dict[str, list[tuple[Tensor, Tensor]]] = {}
    for config, weights, factor in parts:
        for key, a in weights.items():
            if key.endswith(_DOWN):
                name = key.removesuffix(_DOWN)
                scale = factor * _scale(config, a.shape[0], name)
                pairs.setdefault(name, []).append((a.float().cpu(), weights[name + _UP].float().cpu() * scale))
    joint: dict[str, Tensor] = {}
    ranks: dict[str, int] = {}
    for name, own in pairs.items():
        joint[name + _DOWN] = torch.cat([a for a, _ in own]).contiguous()
        joint[name + _UP] = torch.cat([b for _, b in own], 1).contiguous()
        ranks[name.removeprefix(_PREFIX)] = len(joint[name + _DOWN])
    rank = max(ranks.values())
    fewer = {name: r for name, r in ranks.items() if r != rank}
    made = LoraConfig(
        r=rank,
        lora_alpha=rank,
        rank_pattern=dict(fewer),
        alpha_pattern=dict(fewer),
        target_modules=sorted(ranks),
        task_type=like.task_type,
        modules_to_save=like.modules_to_save,
        inference_mode=True,
    )
    return made, joint


def save_stacked(first: Path, config: LoraConfig, state: Mapping[str, Tensor], folder: Path) -> None:
    """Write `stacked` as PEFT reads it."""
    _write(*stacked(first, config, state), folder)


def _write(config: LoraConfig, weights: Mapping[str, Tensor], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    config.save_pretrained(str(folder))
    save_file(dict(weights), folder / _WEIGHTS, metadata={"format": "pt"})


def _read(folder: Path) -> Any:
    return LoraConfig.from_pretrained(str(folder))


def _scale(config: Any, rank: int, name: str) -> float:
    own = name.removeprefix(_PREFIX)
    alpha = next((a for pattern, a in (config.alpha_pattern or {}).items() if own.endswith(pattern)), config.lora_alpha)
    return float(alpha) / (rank**0.5 if config.use_rslora else rank)
