"""Loads models and runs them: chat formats, adapters, the forward over prompts shared by several answers, rollouts."""
