"""Accord turns a written safety policy into a language model that measurably follows it."""

__version__ = "0.1.0"
