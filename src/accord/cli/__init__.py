"""The command line: one file a verb; each reads options, calls a recipe or a room, and prints what came back.

Heavy libraries are imported by the verb that needs them, so that `--help` answers at once.
"""

from accord.cli.app import main

__all__ = ["main"]
