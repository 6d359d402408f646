"""Scorers read transcripts and say what happened, with their evidence; none loads a model, and only a judge's cache writes."""
