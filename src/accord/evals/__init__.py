"""From attempts to evidence: rates with their uncertainty, conditions compared, and release gates."""
