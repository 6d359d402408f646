"""`accord gate`: whether what was measured holds a release's limits."""

from __future__ import annotations

import json
from pathlib import Path

import typer


def gate(
    runs: list[Path] = typer.Argument(
        ..., help="Runs of `accord align`, `eval` or `redteam`; each gate needs one of them."
    ),
    policy: Path = typer.Option(None, help="The policy whose gates hold; that of the first run if none."),
    sequential: bool = typer.Option(
        False, "--sequential", help="Intervals that hold however often you look while a run goes on; wider."
    ),
    json_: bool = typer.Option(False, "--json", help="Print as JSON."),
) -> None:
    """Check the policy's gates against finished runs; a gate is met only where the whole interval is within its limit."""
    from accord.errors import GateError, InputError, NotMeasuredError, SettingsError
    from accord.evals.gates import GateStatus, check_gates, gate_record
    from accord.policy import load_policy
    from accord.recipes.recorded import policy_of, read_recorded
    from accord.types import Estimate

    asked = load_policy(policy) if policy else policy_of(runs[0])
    if not asked.gates:
        raise SettingsError(
            f"policy '{asked.name}' has no gates; add a section `gates:` to it, or give another --policy"
        )
    measured: dict[str, Estimate] = {}
    for folder in runs:
        run = read_recorded(folder, asked if policy else None)
        found = run.so_far() if sequential else run.measures
        if twice := sorted(measured.keys() & found.keys()):
            raise InputError(
                f"{folder}: {', '.join(twice)} was measured by an earlier run too; give one run of each kind"
            )
        measured |= found
    results = check_gates(asked.gates, measured)
    failed = [r for r in results if r.status is not GateStatus.MET]
    if json_:
        print(json.dumps({"met": not failed, "policy": asked.name, "gates": [gate_record(r) for r in results]}))
    else:
        from accord.cli.tables import print_gates

        print_gates(results)
    if all(r.status is GateStatus.NOT_MEASURED for r in results):
        raise NotMeasuredError(f"none of {len(results)} gates was measured: {'; '.join(r.reason for r in results)}")
    if failed:
        words = "; ".join(f"{gate_record(r)['gate']}: {_said(r.status)} ({r.reason})" for r in failed)
        raise GateError(f"{len(failed)} of {len(results)} release gates are not met: {words}")


def _said(status: str) -> str:
    return "not shown to be safe" if status == "not shown" else str(status)
