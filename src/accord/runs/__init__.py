"""The run folder: what was asked, stages keyed by the hash of their inputs, files written whole or not at all."""
