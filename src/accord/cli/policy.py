"""`accord policy check`."""

from __future__ import annotations

import json
from pathlib import Path

import typer


def policy_check(
    file: Path = typer.Argument(None, help="A policy document; the starter policy if none."),
    json_: bool = typer.Option(False, "--json", help="Print as JSON."),
) -> None:
    """Check a policy document; every fault is named with its line and clause."""
    from accord.policy import load_policy
    from accord.starter import policy_path

    path = file or policy_path()
    policy = load_policy(path)
    if json_:
        print(json.dumps({"name": policy.name, "version": policy.version, "hash": policy.hash,
                          "hazards": [h.id for h in policy.hazards], "principles": [p.id for p in policy.principles]}))  # fmt: skip
        return
    print(f"{path}: {policy.name} {policy.version}, hash {policy.hash[:12]}")
    for h in policy.hazards:
        print(f"  hazard     {h.id:<24} {h.severity:<9} {h.response}")
    for p in policy.principles:
        print(f"  principle  {p.id}")


COMMANDS = (policy_check,)
