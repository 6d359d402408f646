"""Tensors and plain containers in one safetensors file: the tensors as its data, their arrangement as JSON in its header.

A file of this kind runs no code when it is read, and any tool of the ecosystem can look into it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from accord.errors import DataError
from accord.runs.atomic import write_atomic

_HEADER = "accord"
# Tags of what JSON has no word for, or would change: a tensor (by name), a mapping (JSON makes every key text), a tuple.
_TENSOR, _MAPPING, _TUPLE = "tensor", "mapping", "tuple"


def save_tensors(path: Path, value: Any) -> None:
    """Save tensors in dicts, lists and tuples, with numbers, text and None among them, whole or not at all.

    Raises:
        InputError: the disk is full or the folder cannot be written.
        TypeError: something else is among them.
    """
    tensors: dict[str, Tensor] = {}
    arrangement = json.dumps(_taken_apart(value, tensors))

    def write(temporary: Path) -> None:
        try:
            save_file(tensors, temporary, metadata={_HEADER: arrangement})
        except SafetensorError as error:
            # What the operating system said stands in the message alone.
            number = re.search(r"os error (\d+)", str(error))
            raise OSError(int(number[1]) if number else 0, str(error)) from error

    write_atomic(path, write)


def load_tensors(path: Path) -> Any:
    """Load what `save_tensors` wrote, with the same bits.

    Raises:
        DataError: the file is missing, damaged or of another kind.
    """
    try:
        with safe_open(path, "pt") as file:
            arrangement = json.loads((file.metadata() or {})[_HEADER])
            return _put_together(arrangement, {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except (SafetensorError, FileNotFoundError, KeyError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read ({error}); remove the folder {path.parent} and go on: its stage is done again"
        ) from error


def _taken_apart(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        name = f"{len(tensors):06d}"
        tensors[name] = value.detach().contiguous()
        return {_TENSOR: name}
    if isinstance(value, Mapping):
        return {_MAPPING: [[_taken_apart(k, tensors), _taken_apart(v, tensors)] for k, v in value.items()]}
    if isinstance(value, tuple):
        return {_TUPLE: [_taken_apart(v, tensors) for v in value]}
    if isinstance(value, list):
        return [_taken_apart(v, tensors) for v in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a {type(value).__name__} cannot be saved among tensors")


def _put_together(kept: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(kept, list):
        return [_put_together(v, tensors) for v in kept]
    if not isinstance(kept, dict):
        return kept
    ((tag, inside),) = kept.items()
    if tag == _TENSOR:
        return tensors[inside]
    if tag == _MAPPING:
        return {_put_together(k, tensors): _put_together(v, tensors) for k, v in inside}
    return tuple(_put_together(v, tensors) for v in inside)
