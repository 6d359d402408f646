"""The `accord` program: its verbs, exit codes, and the one place where errors become lines."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Any

import click
import typer
from typer.core import TyperCommand

from accord import __version__
from accord.errors import AccordError, nearest

INTERNAL_ERROR = 4
STOPPED = 130
# Newer versions of Typer raise errors of usage from a copy of click of their own.
USAGE_ERRORS = (click.ClickException, next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException"))
EPILOG = (
    "Exit codes: 0 done; 1 a gate failed; 2 bad input; 3 could not measure; 4 a fault in Accord itself. "
    "--debug shows the traceback of any error."
)


class Command(TyperCommand):
    """A command that names every unknown option in one message, each with the nearest right name."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse, then refuse all that was not understood at once."""
        known = {name for p in self.params for name in (*p.opts, *p.secondary_opts) if name.startswith("-")} | {
            "--help"
        }
        unknown = [
            a for a in args if a.startswith("-") and a != "-" and not _is_number(a) and a.split("=")[0] not in known
        ]
        if unknown:
            names = [a.split("=")[0] for a in unknown]
            raise click.UsageError("; ".join(f"unknown option {n}{nearest(n, known)}" for n in names), ctx)
        return list(super().parse_args(ctx, args))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


app = typer.Typer(
    help="Turns a written safety policy into a language model that measurably follows it.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(value: bool) -> None:
    if value:
        print(f"accord {__version__}")
        raise typer.Exit


@app.callback()  # type: ignore[untyped-decorator]
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    pass


def _register(arguments: Sequence[str]) -> None:
    from accord.cli import (
        align,
        chat,
        compare,
        data,
        doctor,
        eval,
        findings,
        gate,
        judge,
        judge_correct,
        judge_pairs,
        policy,
        redteam,
        reinforce,
        repairs,
        resume,
        train,
        variants,
    )

    app.command(cls=Command, epilog=EPILOG)(align.align)
    app.command(cls=Command, epilog=EPILOG)(resume.resume)
    app.command(cls=Command, epilog=EPILOG)(compare.compare)
    app.command(cls=Command, epilog=EPILOG)(gate.gate)
    app.command(cls=Command, epilog=EPILOG)(chat.chat)
    app.command("eval", cls=Command, epilog=EPILOG)(eval.evaluate_model)
    app.command(cls=Command, epilog=EPILOG)(redteam.redteam)
    app.command(cls=Command, epilog=EPILOG)(doctor.doctor)
    for module, name, text in (
        (train, "train", "Train on demonstrations or comparisons."),
        (policy, "policy", "Check a policy document."),
        (data, "data", "Check data files."),
        (findings, "findings", "List, label and export the failures that were found, ask them again, repair them."),
        (
            judge,
            "judge",
            "Train what scores answers on labels by people, calibrate it against them; have two answers compared.",
        ),
    ):
        group: Any = typer.Typer(help=text, no_args_is_help=True, epilog=EPILOG)
        commands = [(function.__name__.split("_")[-1], function) for function in module.COMMANDS]
        if module is train and "train" in arguments[:1]:  # to list the objectives loads torch
            commands += [
                *train.pair_commands(),
                *reinforce.reinforcement_commands(),
                ("best-of-n", reinforce.train_best_of_n),
                ("soup", reinforce.train_soup),
            ]
        if module is judge:
            commands += [("correct", judge_correct.judge_correct), ("compare", judge_pairs.judge_compare)]
        if module is findings:
            more = (*repairs.COMMANDS, *variants.COMMANDS)
            commands += [(function.__name__.split("_")[-1], function) for function in more]
        for verb, function in commands:
            group.command(verb, cls=Command, epilog=EPILOG)(function)
        app.add_typer(group, name=name)


def _spread_as_asked() -> None:
    """Read a DeepSpeed configuration of `accelerate launch` before anything else looks at the environment."""
    if "ACCELERATE_USE_DEEPSPEED" in os.environ:
        from accord.models.sharded import as_fsdp2

        os.environ.update(as_fsdp2(os.environ))


def _how_to_go_on(arguments: Sequence[str]) -> str:
    """Return what goes on with a run that was stopped; empty for verbs that keep none."""
    from accord.cli.align import RECIPES

    verb = arguments[0] if arguments else ""
    of_runs = any(name in argument for argument in arguments for name in RECIPES.keys() - {"safety_round"})
    if verb in ("redteam", "resume") or (verb == "align" and not of_runs):
        return "; `accord resume` goes on from here"
    if verb in ("align", "eval", "train"):
        return "; the same command goes on from here, with the run's folder as --out"
    return ""


def main() -> None:
    """Run the command line; end with the exit code that the result asks for."""
    debug = "--debug" in sys.argv
    arguments = [a for a in sys.argv[1:] if a != "--debug"]
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not debug:
        warnings.simplefilter("ignore")
    _register(arguments)
    try:
        _spread_as_asked()
        code = app(arguments, standalone_mode=False)
        if code == STOPPED:  # Typer turns the keyboard's interrupt into it
            print(f"accord: stopped{_how_to_go_on(arguments)}", file=sys.stderr)
    except (click.exceptions.Abort, typer.Abort):
        code = STOPPED
    except USAGE_ERRORS as error:
        print(f"accord: {error.format_message()}", file=sys.stderr)  # type: ignore[attr-defined]
        code = 2
    except AccordError as error:
        if debug:
            traceback.print_exc()
        print(f"accord: {error}", file=sys.stderr)
        code = error.exit_code
    except KeyboardInterrupt:
        print(f"accord: stopped{_how_to_go_on(arguments)}", file=sys.stderr)
        code = STOPPED
    except Exception as error:
        if debug:
            traceback.print_exc()
        hint = "" if debug else "; run again with --debug for the traceback"
        print(f"accord: a fault in Accord: {type(error).__name__}: {error}{hint}", file=sys.stderr)
        code = INTERNAL_ERROR
    sys.exit(code if isinstance(code, int) else 0)
