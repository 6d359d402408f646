"""The command line as a process of its own, for tests of exit codes and of what one process leaves to the next."""

import subprocess
import sys


def accord(*arguments, timeout=300, **options):
    """Run `accord` with these arguments; return the ended process with its output as text, whatever its exit code."""
    command = [sys.executable, "-c", "from accord.cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, **options)
