"""Turns failures into training data."""
