"""Evaluation suites: one file a suite, found by its name."""
