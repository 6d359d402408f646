"""From a name to what it names: one module of a room, found by its file; or `./mine.py:Mine`, a user's own."""

from __future__ import annotations

import importlib.util
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import TypeAdapter, ValidationError

from accord.errors import SettingsError, nearest


def names_in(room: str) -> list[str]:
    """Return the names that `resolve` finds in a room: its modules that hold a function or class of their own name."""
    package = import_module(room)
    names = [info.name for info in pkgutil.iter_modules(package.__path__)]
    return [name for name in names if _held(import_module(f"{room}.{name}"), name) is not None]


def resolve(room: str, name: str) -> Any:
    """Return what the module `name` of a room holds under its own name, or what `FILE.py:NAME` names.

    A function is called as its module (`dpo_norm`), a class is written in capitals (`BestOfN` in `best_of_n`); `best-of-n` is
    understood.

    Raises:
        SettingsError: the room has no such module, or the file cannot be read or lacks the name.
    """
    if ".py:" in name:
        return _from_file(*name.rsplit(":", 1))
    known = names_in(room)
    module = name.replace("-", "_")
    if module not in known:
        raise SettingsError(f"'{name}' is not in {room}{nearest(name, known)}; known: {', '.join(known)}")
    return _held(import_module(f"{room}.{module}"), module)


def options_of(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """Return a function's options: its parameters that have a default."""
    parameters = inspect.signature(function, eval_str=True).parameters
    return {name: p for name, p in parameters.items() if p.default is not inspect.Parameter.empty}


def with_options(function: Callable[..., Any], given: Mapping[str, Any]) -> Callable[..., Any]:
    """Return a function with some of its options filled in, each of which must be what its annotation allows.

    Raises:
        SettingsError: it has no such options, or they cannot be what was given; all in one message.
    """
    known = options_of(function)
    faults: list[str] = []
    for name, value in given.items():
        flag = f"--{name.replace('_', '-')}"
        if name not in known:
            faults.append(f"there is no {flag}{nearest(name, known)}")
            continue
        try:
            TypeAdapter(known[name].annotation).validate_python(value)
        except ValidationError as error:
            faults.append(f"{flag} is {value}: {error.errors()[0]['msg']}")
    if faults:
        raise SettingsError("; ".join(faults))
    return partial(function, **given)


def _held(module: ModuleType, name: str) -> Any:
    return getattr(module, name, None) or getattr(module, "".join(part.capitalize() for part in name.split("_")), None)


def _from_file(file: str, name: str) -> Any:
    path = Path(file)
    if not path.is_file():
        raise SettingsError(f"'{file}:{name}': there is no file {path}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise SettingsError(f"'{file}:{name}': the file fails with {type(error).__name__}: {error}") from error
    if not hasattr(module, name):
        own = [n for n, v in vars(module).items() if getattr(v, "__module__", "") == path.stem]
        raise SettingsError(f"'{file}:{name}': the file has no '{name}'{nearest(name, own)}")
    return getattr(module, name)
