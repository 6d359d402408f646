"""Processes of their own, for tests of exit codes, of kills and of what one process leaves to the next: `accord`, or any function.

They are forked from one that has loaded the model libraries already: loading them is most of what a short command takes. They sum
over as many threads as the process that starts them.
"""

import multiprocessing
import os
import shutil
import sys
import tempfile
from pathlib import Path

import torch

_FORKED = multiprocessing.get_context("forkserver")
_FORKED.set_forkserver_preload(["accord.cli", "accord.recipes.safety_round", "accord.recipes.llama2", "inspect_ai"])


def _run(function, arguments, cwd, environment, output, n_threads):
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    for stream, name in ((1, "stdout"), (2, "stderr")):
        target = os.open(Path(output) / name, os.O_WRONLY | os.O_CREAT)
        os.dup2(target, stream)
        os.close(target)
    torch.set_num_threads(n_threads)
    function(*arguments)


def _command(*arguments):
    from accord.cli import main

    sys.argv = ["accord", *arguments]
    main()


class Forked:
    """A function that runs in a process of its own. How it ended and what it wrote are there once it has been waited for."""

    stdout = stderr = ""

    def __init__(self, function, *arguments, cwd=".", env=None):
        self._output = tempfile.mkdtemp()
        environment = {**os.environ, **(env or {})}
        given = (function, arguments, str(Path(cwd).resolve()), environment, self._output, torch.get_num_threads())
        self._process = _FORKED.Process(target=_run, args=given)
        self._process.start()

    @property
    def returncode(self):
        """As subprocess has it: None while it runs, minus the signal's number where one ended it."""
        return self._process.exitcode

    def kill(self):
        self._process.kill()
        self._ended()

    def wait(self, timeout):
        self._process.join(timeout)
        if self._process.is_alive():
            self.kill()
            raise TimeoutError(f"the process did not end within {timeout} s; it wrote:\n{self.stdout}{self.stderr}")
        self._ended()
        return self

    def _ended(self):
        self._process.join()
        for name in ("stdout", "stderr"):
            path = Path(self._output) / name
            if path.exists():
                setattr(self, name, path.read_text(encoding="utf-8", errors="replace"))
        shutil.rmtree(self._output, ignore_errors=True)


def started(*arguments, cwd="."):
    """Start `accord` with these arguments."""
    return Forked(_command, *map(str, arguments), cwd=cwd)


def accord(*arguments, timeout=300, cwd="."):
    """Run `accord` with these arguments; return the ended process with its output as text, whatever its exit code."""
    return started(*arguments, cwd=cwd).wait(timeout)
