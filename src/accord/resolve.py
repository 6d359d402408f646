"""From a name to what it names: one module of a room, found by its file."""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from accord.errors import SettingsError, nearest


def names_in(room: str) -> list[str]:
    """Return the names that `resolve` finds in a room: its modules that hold something of their own name."""
    package = import_module(room)
    names = [info.name for info in pkgutil.iter_modules(package.__path__)]
    return [name for name in names if hasattr(import_module(f"{room}.{name}"), name)]


def resolve(room: str, name: str) -> Any:
    """Return what the module `name` of a room holds under its own name.

    Raises:
        SettingsError: the room has no such module.
    """
    known = names_in(room)
    if name not in known:
        raise SettingsError(f"'{name}' is not in {room}{nearest(name, known)}; known: {', '.join(known)}")
    return getattr(import_module(f"{room}.{name}"), name)


def options_of(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """Return a function's options: its parameters that have a default."""
    parameters = inspect.signature(function, eval_str=True).parameters
    return {name: p for name, p in parameters.items() if p.default is not inspect.Parameter.empty}
