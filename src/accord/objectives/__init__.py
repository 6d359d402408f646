"""Training objectives: pure functions from log-probabilities to a loss per example, and the one reduction they share."""
