"""One verb for each objective: the options that all of a kind share, and beside them the objective's own."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer


def with_own_options(verb: Callable[..., None], name: str, loss: Callable[..., Any], what: str) -> Callable[..., None]:
    """Return `verb` for one objective; it is handed the objective's name and, as `options`, what was given of its own options.

    `verb` takes them as its keyword-only `objective` and `options`. `what` says what the verb does, under what the objective is.
    """
    from accord.resolve import options_of

    options = options_of(loss)
    shared = [
        p for p in inspect.signature(verb, eval_str=True).parameters.values() if p.name not in ("objective", "options")
    ]
    own = [
        inspect.Parameter(
            option,
            inspect.Parameter.KEYWORD_ONLY,
            default=p.default,
            annotation=Annotated[float | None if p.default is None else float, typer.Option(help=_help(name, option))],
        )
        for option, p in options.items()
    ]

    def command(**given: Any) -> None:
        values = {option: value for option in options if (value := given.pop(option)) is not None}
        verb(**given, objective=name, options=values)

    parameters = [*(p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in shared), *own]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    module = inspect.getmodule(loss)
    about = "" if module is None or loss.__name__ == "<lambda>" else f"{(module.__doc__ or '').strip()}\n\n"
    command.__doc__ = f"{about}{what}"
    return command


def _help(name: str, option: str) -> str:
    return f"{name}'s {option.replace('_', ' ')}."
