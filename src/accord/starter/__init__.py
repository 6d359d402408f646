"""What ships with Accord: a starter policy, demonstrations, prompts to verify with, capability questions and evaluation sets.

Written for this project. Only paths are given here: `accord.policy` and `accord.data` read them.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path


def policy_path() -> Path:
    """Return the path of the starter policy (YAML, read by `accord.policy.load_policy`)."""
    return _path("policy.yaml")


def demonstrations_path() -> Path:
    """Return the path of the demonstrations (JSONL, read by `accord.data.read_demonstrations`)."""
    return _path("demonstrations.jsonl")


def verify_path() -> Path:
    """Return the path of the prompts that are never trained on (JSONL, read by `accord.data.read_prompts`)."""
    return _path("verify.jsonl")


def discover_path() -> Path:
    """Return the path of the prompts that later rounds look for failures with (JSONL, read by `accord.data.read_prompts`)."""
    return _path("discover.jsonl")


def capability_path() -> Path:
    """Return the path of the multiple-choice questions (JSONL, read by `accord.data.read_choices`)."""
    return _path("capability.jsonl")


def suite_path(name: str) -> Path:
    """Return the path of a small evaluation set (JSONL): bias, privacy, sycophancy, toxicity or truthfulness."""
    return _path(f"{name}.jsonl")


def _path(name: str) -> Path:
    return Path(str(resources.files(__name__).joinpath(name)))
