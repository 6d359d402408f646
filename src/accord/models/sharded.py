"""A model whose weights are spread over the processes that train it: PyTorch's FSDP2, where Accelerate's configuration asks for it.

Between uses a process holds its part of each weight; a layer's weights are brought together when the layer runs. What stands
outside the layers (embedding, last norm, head) is whole from the forward pass to the end of the backward pass, so that losses may
be taken from the head's weight directly. Whatever runs the model, or a part of it, is a step of all processes together.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from types import MethodType
from typing import Any

import torch
from accelerate import FullyShardedDataParallelPlugin, PartialState
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    FSDPModule,
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor, distribute_tensor

from accord.errors import SettingsError
from accord.models.logits import inner_of, logit_scale
from accord.models.quantised import is_quantised

_RUN, _FORMAT = "accord_run", "accord_format"
_MULTIPLIED = (torch.float32, torch.bfloat16, torch.float16)


def sharding_asked() -> bool:
    """Whether this run was launched in several processes with a configuration that spreads the weights.

    Raises:
        SettingsError: the configuration asks for a way of spreading them that is not supported.
    """
    if _launched_with("DEEPSPEED"):
        raise SettingsError(
            "DeepSpeed's engine is not used; `accord` runs its configuration through FSDP2 (`as_fsdp2`)"
        )
    if not _launched_with("FSDP"):
        return False
    plugin = _plugin()
    for wrong, said in (
        (plugin.fsdp_version != 2, "FSDP1; set fsdp_version: 2"),
        (_offloads(plugin), "offloaded parameters, which are not supported; set fsdp_offload_params: false"),
        (plugin.activation_checkpointing, "activation checkpointing; unset it, and give --checkpointing instead"),
    ):
        if wrong:
            raise SettingsError(f"the Accelerate configuration's fsdp_config asks for {said}")
    return n_launched() > 1


def as_fsdp2(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what to set in the environment so that FSDP2 spreads what a DeepSpeed configuration of Accelerate's asks to spread.

    ZeRO-3 spreads weights, gradients and the optimiser's state; ZeRO-1 and ZeRO-2 bring a layer's weights together once, for its
    forward and its backward pass; stage 0 spreads nothing (Rajbhandari et al. 2020, arXiv 1910.02054, §5). Empty where DeepSpeed is
    not asked for. With FSDP2 the losses, the checkpoints and the saved model are those of any other launch. Accumulation steps are
    not heeded: how many passes an optimiser step takes follows from its rows and from what fits into memory.

    Raises:
        SettingsError: the configuration asks for offloading or another clipping, or stands in a file of DeepSpeed's own.
    """
    if environment.get("ACCELERATE_USE_DEEPSPEED", "").lower() != "true":
        return {}
    for name, said in _DEEPSPEED.items():
        if environment.get(f"ACCELERATE_DEEPSPEED_{name}", "none").lower() not in ("none", ""):
            raise SettingsError(f"the Accelerate configuration's deepspeed_config asks for {said}")
    if environment.get("ACCELERATE_GRADIENT_CLIPPING", "auto").lower() not in ("none", "", "auto", "1", "1.0"):
        raise SettingsError(
            "the Accelerate configuration's deepspeed_config asks for gradients clipped at another norm than 1, where all runs "
            "clip them; set gradient_clipping: 1.0, or leave it out"
        )
    stage = environment.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2")
    return {
        "ACCELERATE_USE_DEEPSPEED": "false",
        "ACCELERATE_USE_FSDP": "false" if stage == "0" else "true",
        "FSDP_VERSION": "2",
        "FSDP_RESHARD_AFTER_FORWARD": "true" if stage == "3" else "false",
    }


_DEEPSPEED = {
    "OFFLOAD_OPTIMIZER_DEVICE": "an offloaded optimiser, which is not supported; set offload_optimizer_device: none",
    "OFFLOAD_PARAM_DEVICE": "offloaded parameters, which are not supported; set offload_param_device: none",
    "CONFIG_FILE": "a file of DeepSpeed's own (deepspeed_config_file), which is not read; write zero_stage beside it instead",
}


def n_launched() -> int:
    """Return how many processes this run was launched in, without making them a group.

    A group that exists makes transformers load empty weights in all processes but one.
    """
    return int(os.environ.get("WORLD_SIZE", "1"))


def shard(model: nn.Module, layers: nn.ModuleList, compute: torch.dtype | None = None) -> None:
    """Spread a model's weights, in place: each of its layers by itself, and the rest together.

    `compute` is the format that weights are brought together in; None: their own.

    Raises:
        SettingsError: weights are quantised.
        ModelError: a causal model's logits are not its head's weight times its last hidden states.
    """
    if any(is_quantised(module) for module in model.modules()):
        raise SettingsError("int8 and nf4 weights cannot be spread over processes: use bf16, or launch without FSDP")
    if inner_of(model).get_output_embeddings() is not None:
        logit_scale(model)  # to be found while the head's weight is whole
    setattr(model, _FORMAT, compute or multiplied_in(model))
    state, plugin = PartialState(cpu=not torch.cuda.is_available()), _plugin()
    common: dict[str, Any] = {
        "mesh": init_device_mesh(state.device.type, (state.num_processes,)),
        "mp_policy": MixedPrecisionPolicy(param_dtype=compute, reduce_dtype=torch.float32),
    }
    for layer in layers:
        fully_shard(layer, **common, reshard_after_forward=plugin.reshard_after_forward)
    fully_shard(model, **common, reshard_after_forward=False)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            # Losses are divided by the whole step's totals, so that gradients add up; a mean would divide them again.
            module.set_force_sum_reduction_for_comms(True)
            module.set_gradient_divide_factor(1.0)
    setattr(model, _RUN, MethodType(_run, model))
    register_fsdp_forward_method(model, _RUN)


def multiplied_in(model: nn.Module) -> torch.dtype:
    """Return the number format of most of a model's products. Weights in 8 bits and fewer are multiplied in another one."""
    sizes = {dtype: sum(p.numel() for p in model.parameters() if p.dtype == dtype) for dtype in _MULTIPLIED}
    return getattr(model, _FORMAT, None) or max(_MULTIPLIED, key=lambda dtype: sizes[dtype])


def is_sharded(model: nn.Module) -> bool:
    """Whether a model's weights are spread."""
    return isinstance(model, FSDPModule)


def run(model: nn.Module, part: Callable[..., Any], **inputs: Any) -> Any:
    """Run a part of a model, with what it needs of the weights around it."""
    return getattr(model, _RUN)(part, **inputs) if is_sharded(model) else part(**inputs)


@torch.no_grad()
def whole(value: Tensor) -> Tensor:
    """Return a tensor brought together on the CPU of the main process; the others get an empty one.

    All processes call it together. A tensor that is not spread is returned as it is, on the CPU.
    """
    together = value_of(value.detach())
    elsewhere = isinstance(value, DTensor) and distributed.get_rank() != 0
    return torch.empty(0) if elsewhere else together.cpu()


def value_of(value: Tensor) -> Tensor:
    """Return a tensor that every process holds a part of, whole, in every process; any other as it is."""
    spread: Any = value
    return spread.full_tensor() if isinstance(spread, DTensor) else value  # type: ignore[no-any-return]


def own_part(value: Tensor) -> Tensor:
    """Return this process's part of a tensor that is spread; any other as it is."""
    spread: Any = value
    return spread.to_local() if isinstance(spread, DTensor) else value  # type: ignore[no-any-return]


def part_of(value: Tensor, like: Tensor) -> Tensor:
    """Return this process's part of a whole tensor, spread as `like` is; where that is not spread, the tensor itself."""
    if not isinstance(like, DTensor):
        return value
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the trained weights by name: of a model that is spread, the parts that last from step to step."""
    if isinstance(model, FSDPModule):
        # A pass without a backward pass leaves whole what is not taken apart after a forward pass.
        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def trained_state(model: nn.Module) -> dict[str, Tensor]:
    """Return the trained weights by name, whole, on the main process."""
    return {name: whole(p) for name, p in trained(model).items()}


def _run(model: nn.Module, part: Callable[..., Any], **inputs: Any) -> Any:
    return part(**inputs)


def _launched_with(kind: str) -> bool:
    # `accelerate launch` hands its configuration on in the environment. Its own state looks at this only where there are GPUs.
    return os.environ.get(f"ACCELERATE_USE_{kind}", "").lower() == "true"


def _offloads(plugin: Any) -> bool:
    return isinstance(plugin.cpu_offload, CPUOffloadPolicy)


def _plugin() -> Any:
    return FullyShardedDataParallelPlugin()
