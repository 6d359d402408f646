"""The policy document: its schema, its loader, and what is derived from it."""

from accord.policy.derive import system_prompt
from accord.policy.loader import load_policy, parse_policy
from accord.policy.schema import Clause, Hazard, Policy, Principle

__all__ = ["Clause", "Hazard", "Policy", "Principle", "load_policy", "parse_policy", "system_prompt"]
