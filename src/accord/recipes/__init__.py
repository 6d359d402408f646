"""Whole pipelines, a page each: they ask for stages and hand each room the callables it needs."""
