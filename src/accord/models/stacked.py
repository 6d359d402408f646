"""An adapter that was trained on top of another one, as the one adapter that both are together.

A model that is loaded from an adapter has it folded into its weights; what is then trained stands on that. Saved by itself, over
the base that both began with, it would be another model, and PEFT has no adapter whose base is an adapter. Two LoRA adapters of a
map add up to one of the sum of their ranks: W + s_1 B_1 A_1 + s_2 B_2 A_2 = W + [s_1 B_1, s_2 B_2] [A_1; A_2].
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file
from torch import Tensor

_PREFIX = "base_model.model."
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
    parts: dict[str, list[tuple[Tensor, Tensor]]] = {}
    for of, weights in ((lower, load_file(first / _WEIGHTS)), (config, state)):
        for key, a in weights.items():
            if not key.endswith(".lora_A.weight"):
                continue
            name = key.removesuffix(".lora_A.weight")
            b = weights[f"{name}.lora_B.weight"]
            parts.setdefault(name, []).append((a.float().cpu(), b.float().cpu() * _scale(of, a.shape[0], name)))
    joint = {key: value for key, value in state.items() if ".lora_" not in key}
    ranks: dict[str, int] = {}
    for name, pairs in parts.items():
        a, b = torch.cat([a for a, _ in pairs]), torch.cat([b for _, b in pairs], 1)
        joint[f"{name}.lora_A.weight"], joint[f"{name}.lora_B.weight"] = a.contiguous(), b.contiguous()
        ranks[name.removeprefix(_PREFIX)] = a.shape[0]
    rank = max(ranks.values())
    fewer = {name: r for name, r in ranks.items() if r != rank}
    made = LoraConfig(
        r=rank,
        lora_alpha=rank,
        rank_pattern=dict(fewer),
        alpha_pattern=dict(fewer),
        target_modules=sorted(ranks),
        task_type=config.task_type,
        modules_to_save=config.modules_to_save,
        base_model_name_or_path=lower.base_model_name_or_path,
        inference_mode=True,
    )
    return made, joint


def save_stacked(first: Path, config: LoraConfig, state: Mapping[str, Tensor], folder: Path) -> None:
    """Write `stacked` as PEFT reads it."""
    made, weights = stacked(first, config, state)
    folder.mkdir(parents=True, exist_ok=True)
    made.save_pretrained(str(folder))
    save_file(weights, folder / _WEIGHTS, metadata={"format": "pt"})


def _read(folder: Path) -> Any:
    return LoraConfig.from_pretrained(str(folder))


def _scale(config: Any, rank: int, name: str) -> float:
    own = name.removeprefix(_PREFIX)
    alpha = next((a for pattern, a in (config.alpha_pattern or {}).items() if own.endswith(pattern)), config.lora_alpha)
    return float(alpha) / (rank**0.5 if config.use_rslora else rank)
