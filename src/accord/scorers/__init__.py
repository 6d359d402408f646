"""Scorers read one transcript and say what happened, with their evidence; none writes a file or loads a model."""
