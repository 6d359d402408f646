"""The offline loop: token-budget batches of trees, one step's totals counted first, checkpoints by time."""
