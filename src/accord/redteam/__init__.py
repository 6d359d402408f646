"""Finds failures: attacks on a model, and the campaign that spends a budget of queries on them."""
