"""The command line as a process of its own, for tests of exit codes, of kills and of what one process leaves to the next.

Processes are forked from one that has loaded the model libraries already: loading them is most of what a short command takes. With
`env` a process begins anew, since libraries read their environment as they are loaded.
"""

import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

_FORKED = multiprocessing.get_context("forkserver")
_FORKED.set_forkserver_preload(["accord.cli", "accord.recipes.safety_round", "accord.recipes.llama2"])


def _main(arguments, cwd, environment, output):
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    for stream, name in ((1, "stdout"), (2, "stderr")):
        target = os.open(Path(output) / name, os.O_WRONLY | os.O_CREAT)
        os.dup2(target, stream)
        os.close(target)
    from accord.cli import main

    sys.argv = ["accord", *arguments]
    main()


class Started:
    """A command that runs. How it ended and what it wrote are there once it has been waited for."""

    stdout = stderr = ""

    def __init__(self, *arguments, cwd="."):
        self._output = tempfile.mkdtemp()
        given = (list(map(str, arguments)), str(Path(cwd).resolve()), dict(os.environ), self._output)
        self._process = _FORKED.Process(target=_main, args=given)
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
            raise TimeoutError(f"the command did not end within {timeout} s; it wrote:\n{self.stdout}{self.stderr}")
        self._ended()
        return self

    def _ended(self):
        self._process.join()
        for name in ("stdout", "stderr"):
            path = Path(self._output) / name
            if path.exists():
                setattr(self, name, path.read_text(encoding="utf-8", errors="replace"))
        shutil.rmtree(self._output, ignore_errors=True)


def accord(*arguments, timeout=300, cwd=".", env=None):
    """Run `accord` with these arguments; return the ended process with its output as text, whatever its exit code."""
    if env is None:
        return Started(*arguments, cwd=cwd).wait(timeout)
    command = [sys.executable, "-c", "from accord.cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, env=env, cwd=cwd)
